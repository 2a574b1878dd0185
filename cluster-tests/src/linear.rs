//! Whether the intent API is linearizable (I2): what clients saw and when, and a search for one order that explains
//! it.

pub mod history;
pub mod recorder;
pub mod search;
