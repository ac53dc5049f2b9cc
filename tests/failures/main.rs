//! Failures: failover, fallbacks, the fault list of docs/failures.md, and the errors that clients see.

mod errors;
mod failover;
mod faults;
mod faults_around;
mod faults_pools;
mod faults_process;
mod loops;
