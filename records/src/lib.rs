//! Under construction.

pub mod dead_letters;
pub mod owners;
pub mod seals;
#[cfg(test)]
mod test_table;
