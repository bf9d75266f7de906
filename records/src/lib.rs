//! Under construction.

pub mod policies;
