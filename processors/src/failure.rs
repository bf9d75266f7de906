//! What a store's failure means for the task: the one place that decides.

use mill_ports::{FailureClass, ProcessorError, RefusalReason, StoreError, StoreErrorKind, error_chain};

/// What a store's failure means for a task.
#[derive(Debug)]
pub(crate) enum ErrorMeaning {
    /// Nothing can be done about this item, now or later: it is refused by name.
    Refused {
        /// Why, and where.
        reason: String,
    },
    /// The execution failed.
    Failed(ProcessorError),
}

impl ErrorMeaning {
    /// What `error` means for a task about `subject`.
    pub(crate) fn of(error: StoreError, subject: &str) -> Self {
        match (failure_class(&error), &error.kind) {
            (Some(class), _) => Self::Failed(processor_error(class, subject, error)),
            (None, kind) => {
                let refusal = refusal_text(kind);
                // The store's own words, unless the refusal has them already.
                let details = error
                    .source
                    .as_ref()
                    .map(|source| error_chain(&**source))
                    .filter(|details| !refusal.contains(details));
                let details = details.map_or_else(String::new, |details| format!(": {details}"));
                Self::Refused { reason: format!("{refusal} (in store `{}`{details})", error.store) }
            }
        }
    }
}

fn refusal_text(kind: &StoreErrorKind) -> String {
    match kind {
        StoreErrorKind::Refused(refusal) => refusal.to_string(),
        other => other.to_string(),
    }
}

/// The class of a store's failure; `None` for an item that the store refuses for good.
pub(crate) fn failure_class(error: &StoreError) -> Option<FailureClass> {
    let store = || error.store.clone();
    Some(match &error.kind {
        StoreErrorKind::Refused(_) => return None,
        StoreErrorKind::Throttled { retry_after } => {
            FailureClass::Throttled { store: store(), retry_after: *retry_after }
        }
        StoreErrorKind::Unavailable | StoreErrorKind::NotConfigured => FailureClass::Unavailable { store: store() },
        StoreErrorKind::Unreachable => FailureClass::Unreachable { store: store() },
        StoreErrorKind::SpaceAbsent
        | StoreErrorKind::Precondition
        | StoreErrorKind::Changed
        | StoreErrorKind::Damaged
        | StoreErrorKind::OnlyCached
        | StoreErrorKind::Unexpected => FailureClass::Retryable,
    })
}

/// Whether a destination may accept a refused item later in the same run: another item is in the way, and its delete may be on
/// its way, as when `a` was replaced by `a/b`.
pub(crate) fn is_name_conflict(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Refused(RefusalReason::PathConflict(_) | RefusalReason::Twin(_)))
}

/// The error of a task that could not bring `subject` in sync.
pub(crate) fn processor_error(
    class: FailureClass,
    subject: &str,
    source: impl Into<mill_ports::BoxError>,
) -> ProcessorError {
    ProcessorError { class, message: format!("`{subject}` is not in sync yet"), source: Some(source.into()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mill_model::{AccountId, StoreAddress, StoreId};

    #[test]
    fn every_sort_of_store_failure_has_its_fate() {
        let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("s").unwrap() };
        let retry_after = Some(Duration::from_secs(7));
        let rows = [
            (
                StoreErrorKind::Throttled { retry_after },
                Some(FailureClass::Throttled { store: store.clone(), retry_after }),
            ),
            (StoreErrorKind::Unavailable, Some(FailureClass::Unavailable { store: store.clone() })),
            (StoreErrorKind::Unreachable, Some(FailureClass::Unreachable { store: store.clone() })),
            (StoreErrorKind::NotConfigured, Some(FailureClass::Unavailable { store: store.clone() })),
            (StoreErrorKind::SpaceAbsent, Some(FailureClass::Retryable)),
            (StoreErrorKind::Precondition, Some(FailureClass::Retryable)),
            (StoreErrorKind::Changed, Some(FailureClass::Retryable)),
            (StoreErrorKind::Damaged, Some(FailureClass::Retryable)),
            (StoreErrorKind::OnlyCached, Some(FailureClass::Retryable)),
            (StoreErrorKind::Unexpected, Some(FailureClass::Retryable)),
            (StoreErrorKind::Refused(RefusalReason::NotUtf8), None),
        ];
        for (kind, expected) in rows {
            let error =
                StoreError { kind: kind.clone(), op: "put", store: store.clone(), subject: "p/x".into(), source: None };
            match ErrorMeaning::of(error, "a/p/x") {
                ErrorMeaning::Failed(failure) => assert_eq!(Some(failure.class), expected, "{kind:?}"),
                ErrorMeaning::Refused { reason } => {
                    assert_eq!(expected, None, "{kind:?}");
                    assert_eq!(reason, "its name is not UTF-8 (in store `a:s`)");
                }
            }
        }
    }
}
