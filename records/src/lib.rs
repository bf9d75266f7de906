//! Under construction.

pub mod seals;
#[cfg(test)]
mod test_table;
