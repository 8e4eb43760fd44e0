//! The parts of which scenarios are made: a site, a scene, a cluster, its load, its operator, its machines.

pub mod api;
pub mod audit;
pub mod audit_log;
pub mod cluster;
pub mod failure;
pub mod load_pod;
pub mod machines;
pub mod objects;
pub mod operator;
pub mod own_disk;
pub mod progress;
pub mod rights;
pub mod runner;
pub mod scene;
pub mod shell;
pub mod site;
pub mod sound;
pub mod volumes;
pub mod wait;

pub use api::Kind;
pub use cluster::Cluster;
pub use load_pod::LoadPod;
pub use machines::Machine;
pub use operator::Operator;
pub use scene::Scene;
pub use site::Site;
pub use sound::Ending;
