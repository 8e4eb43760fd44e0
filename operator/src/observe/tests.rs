//! The Observer against a server that stands for the API server and the nodes.
