//! Under construction.

pub mod owners;
pub mod seals;
#[cfg(test)]
mod test_table;
