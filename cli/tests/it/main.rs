//! The binary as a person uses it: real folders, real processes, and checkers that share no code with Mill.

mod hostile;
mod kills;
mod mirror;
mod policies;
mod trouble;
mod world;
