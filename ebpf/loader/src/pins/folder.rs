//! Folders of pins.

use std::io;
use std::path::Path;

use crate::error::DataplaneError;

/// What is in a folder; nothing, if there is none.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, DataplaneError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DataplaneError::Pin { path: folder.into(), source }),
    };
    entries
        .map(|entry| {
            Ok(entry.map_err(DataplaneError::pin(folder))?.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

pub(super) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    std::fs::remove_file(path).map_err(DataplaneError::pin(path))
}

/// Removes a folder that is there and has nothing in it.
pub(super) fn remove_empty(folder: &Path) -> Result<(), DataplaneError> {
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody else's pins are not ours to remove.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result.map_err(DataplaneError::pin(folder)),
    }
}
