//! Models of a few lines, against which random operations are checked.
//!
//! Operands are chosen by index modulo what there is, so that every part of a failing sequence is valid by itself and
//! shrinking finds the short one. A sequence that failed is kept in `proptest-regressions` and tried first ever after.

pub mod queue;
pub mod store;
pub mod table;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError, TestRunner};

/// Tries `check` on `cases` sequences; `PROPTEST_CASES` sets another number.
///
/// # Panics
/// With the shortest failing sequence found, when there is one.
pub(crate) fn hold<S: Strategy<Value: Debug>>(
    ops: &S,
    cases: u32,
    regressions: &'static str,
    check: impl Fn(S::Value),
) {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { cases };
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(regressions)) as Box<_>);
    let config = Config { cases, failure_persistence, max_shrink_iters: 2000, ..Config::default() };
    let outcome = TestRunner::new(config).run(ops, |ops| {
        check(ops);
        Ok::<(), TestCaseError>(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, ops)) => panic!("{reason}\nby {ops:#?}"),
        Err(error) => panic!("{error}"),
    }
}

/// One of `from`, by any index; `None` where there is none.
pub(crate) fn pick<T>(from: &[T], index: usize) -> Option<&T> {
    from.get(index.checked_rem(from.len())?)
}
