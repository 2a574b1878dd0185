//! Every file of the fuzzer's corpus through the fuzzer's entry. A file named `KIND--WHAT` must be seen as
//! `KIND`; one without `--`, as the fuzzer finds them, must do no harm.

#[path = "../fuzz/entry.rs"]
mod entry;

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_file_of_the_corpus_is_seen_as_its_name_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packet");
    let mut seen = BTreeSet::new();
    for file in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let got = format!("{:?}", entry::run(&std::fs::read(&path).unwrap()));
        if let Some((kind, _)) = name.split_once("--") {
            assert_eq!(got, kind, "{name}");
        }
        seen.insert(got);
    }
    // Each way through the entry has a file, so that none is lost unnoticed.
    let ways = [
        "Arp",
        "Echo",
        "Error",
        "ErrorUntranslatable",
        "ExtensionRefused",
        "FragmentFirst",
        "FragmentLater",
        "FragmentRefused",
        "Malformed",
        "Nothing",
        "OtherIcmp",
        "OtherProtocol",
        "Ports",
        "Sctp",
        "SctpRefused",
        "Solicitation",
    ];
    assert_eq!(seen, ways.map(String::from).into(), "ways through the entry");
}

/// What the fuzzer does first, without it: each file cut short at every length, and with each byte changed.
#[test]
fn neighbours_of_the_corpus_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packet");
    for file in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for position in 0..bytes.len() {
            entry::run(&bytes[..position]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[position] ^= change;
                entry::run(&changed);
            }
        }
    }
}
