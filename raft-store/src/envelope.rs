//! A file that says what it is, how long it is, and whether it is whole: `magic | length | crc32c | payload`, integers
//! little-endian. The magic's last two digits are the format's version.

const HEADER: usize = 20;

/// The file with `payload` in it.
pub(crate) fn wrap(magic: &[u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload, or what is wrong with the file. `what`: what it should be.
pub(crate) fn unwrap<'a>(magic: &[u8; 8], what: &str, file: &'a [u8]) -> Result<&'a [u8], String> {
    if file.len() < HEADER || file[..6] != magic[..6] {
        return Err(format!("it does not begin as a {what} does"));
    }
    if &file[..8] != magic {
        let version = |magic: &[u8]| String::from_utf8_lossy(&magic[6..8]).into_owned();
        let (theirs, ours) = (version(file), version(magic));
        return Err(format!("a {what} of version {theirs}; this program reads version {ours}"));
    }
    let (header, payload) = file.split_at(HEADER);
    let length = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
    if length != payload.len() as u64 {
        return Err(format!("it holds {} bytes, its header says {length}", payload.len()));
    }
    let crc = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
    if crc != crc32c::crc32c(payload) {
        return Err("its checksum is wrong".into());
    }
    Ok(payload)
}
