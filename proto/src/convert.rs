//! Between messages and the model: `From<&model>` for messages, `TryFrom<message>` for the model. What cannot
//! be converted is refused with an error that names the field.

pub mod address;
mod applied;
mod command;
mod enums;
mod flow;
mod health;
mod intent;
mod service;
mod snat;
mod state;

use lockstep_model::ids::InstallationId;

/// A message that does not say something the model can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// Path of the field from the message that was converted, e.g. `spec.endpoints[3].weight`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A required field is absent, or an enum says `UNSPECIFIED`.
    #[error("missing")]
    Missing,
    /// An enum's number that this version does not know.
    #[error("unknown value {0}")]
    UnknownEnum(i32),
    /// A number outside its range.
    #[error("{value} is not in {allowed}")]
    OutOfRange {
        /// The number.
        value: u64,
        /// The range.
        allowed: &'static str,
    },
    /// An address whose length is neither 4 nor 16.
    #[error("an address of {0} bytes; allowed: 4 or 16")]
    AddressLength(usize),
    /// The same id twice.
    #[error("{0} occurs twice")]
    Duplicate(String),
    /// Two lists that belong together have different lengths.
    #[error("{got} elements, expected {expected}")]
    Length {
        /// Found.
        got: usize,
        /// Expected.
        expected: usize,
    },
}

impl ConvertError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, problem: Problem) -> Self {
        ConvertError { field: field.into(), problem }
    }

    /// The same error, seen from the message that holds the converted one in `outer`.
    pub fn within(self, outer: impl std::fmt::Display) -> Self {
        let field = if self.field.is_empty() { outer.to_string() } else { format!("{outer}.{}", self.field) };
        ConvertError { field, problem: self.problem }
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

/// A message field that must be there, converted.
pub fn required<M, W>(field: &'static str, value: Option<W>) -> Result<M, ConvertError>
where
    M: TryFrom<W, Error = ConvertError>,
{
    let value = value.ok_or_else(|| ConvertError::new(field, Problem::Missing))?;
    M::try_from(value).map_err(|e| e.within(field))
}

/// Every element of a repeated message field, converted.
pub(crate) fn each<M, W>(field: &'static str, values: Vec<W>) -> Result<Vec<M>, ConvertError>
where
    M: TryFrom<W, Error = ConvertError>,
{
    let convert = |(i, value)| M::try_from(value).map_err(|e| e.within(format_args!("{field}[{i}]")));
    values.into_iter().enumerate().map(convert).collect()
}

/// An installation's 16 bytes.
pub fn installation(field: &'static str, value: &[u8]) -> Result<InstallationId, ConvertError> {
    let length = || Problem::Length { got: value.len(), expected: 16 };
    value.try_into().map(InstallationId).map_err(|_| ConvertError::new(field, length()))
}

fn port(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| {
        ConvertError::new(field, Problem::OutOfRange { value: value.into(), allowed: "0-65535" })
    })
}
