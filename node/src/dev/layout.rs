//! Where everything of a dev cluster is: three nodes, their ports, and one directory.
//!
//! ```text
//! DIR/n1 DIR/n2 DIR/n3     the nodes' data
//! DIR/logs/n1.log ...      what the nodes say
//! DIR/token                the cluster's token
//! DIR/port-base            the base that the members' fixed peer URLs were made with
//! DIR/endpoints            the nodes' client URLs, where raftkvctl looks for them
//! DIR/lock                 held by the command that runs the nodes; its pid
//! ```

use raftkv_client::TOKEN_DIGITS;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// etcd's client port.
const PORT_BASE_DEFAULT: u16 = 2379;
/// Distance of two nodes' ports.
const NODE_PORTS_APART: u16 = 10_000;
/// Largest base: the third node's admin port is 20 002 above it.
const PORT_BASE_MAX: u16 = u16::MAX - 2 * NODE_PORTS_APART - 2;

/// Why a dev cluster cannot start here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error(
        "--port-base {0} is not usable: give 1 to {PORT_BASE_MAX}, since the nodes take the base, the base + 10000 and \
         the base + 20000, and two ports after each"
    )]
    PortBase(u16),
    #[error(
        "--port-base {given} is not what the data in {dir} were made with ({made}), and a member's peer URL is fixed \
         for its life: give --port-base {made}, or another --data-dir"
    )]
    OtherPortBase { given: u16, made: u16, dir: String },
    #[error(
        "port {port} ({node}, {purpose}) is in use: stop what listens there, or choose other ports with --port-base \
         (and another --data-dir if this one holds data)"
    )]
    PortInUse { port: u16, node: &'static str, purpose: &'static str },
    #[error(
        "{dir} is in use by another `raftkv dev`{}: use that cluster, end it, or give another --data-dir and --port-base",
        .pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held { dir: String, pid: Option<String> },
    #[error("127.0.0.1:{port} cannot be listened on: {source}")]
    Port { port: u16, source: io::Error },
    #[error("{file} does not hold {want}: put it right, or remove it if the cluster's data are to be made anew")]
    Content { file: String, want: &'static str },
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
}

fn io_error(file: &Path) -> impl FnOnce(io::Error) -> LayoutError + '_ {
    move |source| LayoutError::Io { file: file.display().to_string(), source }
}

/// One node of the cluster.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) client_port: u16,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
}

impl Place {
    pub(super) fn peer_port(&self) -> u16 {
        self.client_port + 1
    }

    pub(super) fn admin_port(&self) -> u16 {
        self.client_port + 2
    }

    pub(super) fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(super) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port())
    }

    pub(super) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port())
    }

    fn ports(&self) -> [(u16, &'static str); 3] {
        [(self.client_port, "clients"), (self.peer_port(), "peers"), (self.admin_port(), "admin")]
    }
}

/// A dev cluster's directory and nodes.
#[derive(Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) token_file: PathBuf,
    pub(super) token: String,
    pub(super) places: [Place; 3],
    /// The directory is ours as long as one of its clones lives.
    _lock: Arc<File>,
}

/// Without the token.
impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout").field("dir", &self.dir).field("places", &self.places).finish_non_exhaustive()
    }
}

impl Layout {
    /// Makes or reads the directory. The ports are looked at by [`Layout::check_ports`].
    pub(super) fn prepare(dir: &Path, port_base: Option<u16>) -> Result<Layout, LayoutError> {
        if let Some(base) = port_base {
            check_base(base)?;
        }
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(io_error(&logs))?;
        let dir = dir.canonicalize().map_err(io_error(dir))?;
        let lock = hold(&dir)?;
        let base = settle_base(&dir, port_base)?;
        let token_file = dir.join("token");
        let token = settle_token(&token_file)?;
        let place = |name: &'static str, nth: u16| Place {
            name,
            client_port: base + nth * NODE_PORTS_APART,
            data_dir: dir.join(name),
            log: dir.join("logs").join(format!("{name}.log")),
        };
        let places = [place("n1", 0), place("n2", 1), place("n3", 2)];
        let endpoints = dir.join("endpoints");
        let urls = places.each_ref().map(Place::client_url).join(",");
        fs::write(&endpoints, format!("{urls}\n")).map_err(io_error(&endpoints))?;
        Ok(Layout { token_file, token, places, dir, _lock: Arc::new(lock) })
    }

    /// Finds the first port that something listens on.
    pub(super) fn check_ports(&self) -> Result<(), LayoutError> {
        for place in &self.places {
            for (port, purpose) in place.ports() {
                match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        return Err(LayoutError::PortInUse { port, node: place.name, purpose });
                    }
                    Err(source) => return Err(LayoutError::Port { port, source }),
                }
            }
        }
        Ok(())
    }
}

/// Takes the lock of the directory, which the system gives back when this process ends, however it ends.
fn hold(dir: &Path) -> Result<File, LayoutError> {
    let path = dir.join("lock");
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io_error(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).ok().map(|text| text.trim().to_string()).filter(|pid| !pid.is_empty());
            return Err(LayoutError::Held { dir: dir.display().to_string(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(&path)(source)),
    }
    let told = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    told.map_err(io_error(&path))?;
    Ok(lock)
}

/// Whether all ports of the nodes exist with this base.
pub(crate) fn check_base(base: u16) -> Result<(), LayoutError> {
    if base == 0 || base > PORT_BASE_MAX { Err(LayoutError::PortBase(base)) } else { Ok(()) }
}

/// The base of the data that are there, which the members' peer URLs carry; else the one that was asked for.
fn settle_base(dir: &Path, given: Option<u16>) -> Result<u16, LayoutError> {
    let file = dir.join("port-base");
    let made = match fs::read_to_string(&file) {
        Ok(text) => {
            let base = text.trim().parse::<u16>().ok().filter(|base| check_base(*base).is_ok());
            let bad = || LayoutError::Content { file: file.display().to_string(), want: "a port" };
            Some(base.ok_or_else(bad)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_error(&file)(error)),
    };
    let has_data = ["n1", "n2", "n3"].iter().any(|name| dir.join(name).exists());
    match (made, given) {
        (Some(made), Some(given)) if made != given && has_data => {
            Err(LayoutError::OtherPortBase { given, made, dir: dir.display().to_string() })
        }
        (Some(made), None) => Ok(made),
        (Some(_), Some(_)) | (None, _) => {
            let base = given.unwrap_or(PORT_BASE_DEFAULT);
            fs::write(&file, format!("{base}\n")).map_err(io_error(&file))?;
            Ok(base)
        }
    }
}

/// The token that is there, or a new one that nobody else can read.
fn settle_token(file: &Path) -> Result<String, LayoutError> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let first = text.lines().next().unwrap_or_default().to_string();
            if first.len() == TOKEN_DIGITS
                && first.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            {
                return Ok(first);
            }
            Err(LayoutError::Content {
                file: file.display().to_string(),
                want: "64 lower-case hex digits in its first line",
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
            let mut new =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(io_error(file))?;
            writeln!(new, "{token}").and_then(|()| new.sync_all()).map_err(io_error(file))?;
            Ok(token)
        }
        Err(error) => Err(io_error(file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_default_ports_are_the_documented_ones() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(dir.path(), None).unwrap();
        let ports: Vec<_> = layout.places.iter().flat_map(|place| place.ports().map(|(port, _)| port)).collect();
        assert_eq!(ports, [2379, 2380, 2381, 12379, 12380, 12381, 22379, 22380, 22381]);
    }

    #[test]
    fn the_endpoints_are_where_raftkvctl_looks_for_them() {
        let dir = tempfile::tempdir().unwrap();
        Layout::prepare(dir.path(), Some(3000)).unwrap();
        let stored = fs::read_to_string(dir.path().join("endpoints")).unwrap();
        assert_eq!(stored, "http://127.0.0.1:3000,http://127.0.0.1:13000,http://127.0.0.1:23000\n");
    }

    #[test]
    fn a_directory_that_another_command_uses_is_refused_with_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let held = Layout::prepare(dir.path(), None).unwrap();
        let error = Layout::prepare(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains(&format!("another `raftkv dev` (pid {})", std::process::id())), "{error}");
        drop(held);
        Layout::prepare(dir.path(), None).expect("it is free again");
    }

    #[test]
    fn the_token_is_secret_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let token = Layout::prepare(dir.path(), None).unwrap().token;
        assert_eq!(token.len(), TOKEN_DIGITS);
        let mode = fs::metadata(dir.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Layout::prepare(dir.path(), None).unwrap().token, token);
        fs::write(dir.path().join("token"), "short\n").unwrap();
        let error = Layout::prepare(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("token does not hold 64 lower-case hex digits"), "{error}");
    }

    #[test]
    fn a_base_whose_last_port_would_not_exist_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Layout::prepare(dir.path(), Some(PORT_BASE_MAX)).is_ok());
        for bad in [0, PORT_BASE_MAX + 1, 60_000] {
            let error = Layout::prepare(dir.path(), Some(bad)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--port-base {bad} is not usable: give 1 to 45533")), "{error}");
        }
    }

    #[test]
    fn data_keep_the_base_that_they_were_made_with() {
        let dir = tempfile::tempdir().unwrap();
        Layout::prepare(dir.path(), Some(3000)).unwrap();
        Layout::prepare(dir.path(), Some(4000)).expect("without data another base may be chosen");
        fs::create_dir(dir.path().join("n2")).unwrap();
        assert_eq!(Layout::prepare(dir.path(), None).unwrap().places[0].client_port, 4000);
        let error = Layout::prepare(dir.path(), Some(5000)).unwrap_err().to_string();
        assert!(error.contains("give --port-base 4000, or another --data-dir"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_named_with_its_node_and_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let (taken, base) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            // The listener plays n2's admin port. Those that are looked at before it must be free: others use ports, too.
            if (NODE_PORTS_APART + 3..=PORT_BASE_MAX).contains(&port) {
                let base = port - NODE_PORTS_APART - 2;
                let before = (0..3).chain(NODE_PORTS_APART..NODE_PORTS_APART + 2).map(|apart| base + apart);
                if before.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
                    break (listener, base);
                }
            }
        };
        let layout = Layout::prepare(dir.path(), Some(base)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = layout.check_ports().unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {port} (n2, admin) is in use")), "{error}");
        assert!(error.contains("--port-base"), "{error}");
    }
}
