//! Each program run on one packet at a time: golden bytes, and everything the same as in memory.

#[path = "program_run/craft.rs"]
mod craft;

#[path = "program_run/answers.rs"]
mod answers;
#[path = "program_run/arriving.rs"]
mod arriving;
#[path = "program_run/budget.rs"]
mod budget;
#[path = "program_run/delivery.rs"]
mod delivery;
#[path = "program_run/flow_cache.rs"]
mod flow_cache;
#[path = "program_run/host.rs"]
mod host;
#[path = "program_run/leaving.rs"]
mod leaving;
#[path = "program_run/malformed.rs"]
mod malformed;
#[path = "program_run/neighbours.rs"]
mod neighbours;
#[path = "program_run/node_ports.rs"]
mod node_ports;
#[path = "program_run/object.rs"]
mod object;
#[path = "program_run/random.rs"]
mod random;
#[path = "program_run/services.rs"]
mod services;
#[path = "program_run/start_over.rs"]
mod start_over;
