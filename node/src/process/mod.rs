//! The life of the process around one node: how it begins, what it does once a second, how it ends.
//!
//! `serve` wires the node together; `mount` and `open_files` check the volume and the limit of open files before
//! clients are served. `client_threads` are the runtimes of its clients, `background` and `space_watch` do the work of
//! every second, and `clean_stop` is the order in which the node ends.

pub mod background;
pub mod clean_stop;
pub mod client_threads;
pub mod mount;
pub mod open_files;
pub mod serve;
pub mod space_watch;
