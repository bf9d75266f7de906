//! What a producer promises, tried on stores, queues and books in memory and on time that a test moves.

mod accounts;
mod background_reads;
mod crashes;
mod deletes;
mod differences;
mod failures;
mod fences;
mod paths;
mod rounds;
mod runs;
mod second_plan;
mod session_loop;
mod shares;
mod silent;
mod spaces;
mod sums;
mod world;
