//! The life of the process around one node: how it begins, what it does once a second, how it ends.
//!
//! `serve` wires the node together, `mount` and `open_files` look at what it stands on before that, `client_threads` are
//! the runtimes of its clients, `background` and `space_watch` its rounds, `clean_stop` the order in which it ends.

pub mod background;
pub mod clean_stop;
pub mod client_threads;
pub mod mount;
pub mod open_files;
pub mod serve;
pub mod space_watch;
