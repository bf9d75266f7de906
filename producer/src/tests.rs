//! What a producer promises, tried on stores, queues and books in memory and on time that a test moves.

mod accounts;
mod crashes;
mod deletes;
mod differences;
mod failures;
mod fences;
mod paths;
mod readings;
mod rounds;
mod runs;
mod shares;
mod silent;
mod spaces;
mod stay;
mod sums;
mod world;
