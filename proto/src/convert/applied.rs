//! What applying a command answered.

use lockstep_model::ids::Revision;
use lockstep_model::state::{Applied, Refusal};

use super::{ConvertError, Problem, required};
use crate::types::v1 as pb;
use crate::types::v1::applied::Outcome as WireOutcome;
use crate::types::v1::refusal::Refusal as WireRefusal;

impl From<&Applied> for pb::Applied {
    fn from(model: &Applied) -> Self {
        let outcome = match model {
            Applied::Changed { revision, lines } => WireOutcome::Changed(outcome(*revision, lines)),
            Applied::Unchanged { revision, lines } => WireOutcome::Unchanged(outcome(*revision, lines)),
            Applied::Refused(refusal) => WireOutcome::Refused(refusal.into()),
        };
        pb::Applied { outcome: Some(outcome) }
    }
}

fn outcome(revision: Revision, lines: &[String]) -> pb::Outcome {
    pb::Outcome { revision: revision.get(), lines: lines.to_vec() }
}

impl TryFrom<pb::Applied> for Applied {
    type Error = ConvertError;

    fn try_from(wire: pb::Applied) -> Result<Self, ConvertError> {
        match wire.outcome {
            None => Err(ConvertError::new("outcome", Problem::Missing)),
            Some(WireOutcome::Changed(o)) => {
                Ok(Applied::Changed { revision: Revision(o.revision), lines: o.lines })
            }
            Some(WireOutcome::Unchanged(o)) => {
                Ok(Applied::Unchanged { revision: Revision(o.revision), lines: o.lines })
            }
            Some(WireOutcome::Refused(refusal)) => Ok(Applied::Refused(required("refused", Some(refusal))?)),
        }
    }
}

impl From<&Refusal> for pb::Refusal {
    fn from(model: &Refusal) -> Self {
        let refusal = match model.clone() {
            Refusal::Invalid { path, value, allowed } => {
                WireRefusal::Invalid(pb::InvalidValue { path, value, allowed })
            }
            Refusal::NotFound { kind, name } => WireRefusal::NotFound(pb::NotFound { kind, name }),
            Refusal::Conflict { expected, current } => {
                WireRefusal::Conflict(pb::Conflict { expected: expected.get(), current: current.get() })
            }
        };
        pb::Refusal { refusal: Some(refusal) }
    }
}

impl TryFrom<pb::Refusal> for Refusal {
    type Error = ConvertError;

    fn try_from(wire: pb::Refusal) -> Result<Self, ConvertError> {
        match wire.refusal {
            None => Err(ConvertError::new("refusal", Problem::Missing)),
            Some(WireRefusal::Invalid(pb::InvalidValue { path, value, allowed })) => {
                Ok(Refusal::Invalid { path, value, allowed })
            }
            Some(WireRefusal::NotFound(pb::NotFound { kind, name })) => Ok(Refusal::NotFound { kind, name }),
            Some(WireRefusal::Conflict(conflict)) => Ok(Refusal::Conflict {
                expected: Revision(conflict.expected),
                current: Revision(conflict.current),
            }),
        }
    }
}
