//! Under construction.

pub mod folder;
