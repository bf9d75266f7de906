//! Programs of others verify what this crate writes, and this crate what they write. `./test` installs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod independent;
mod verifiers;
mod written_log;
