//! The cluster's bearer tokens (rule O5), read from a file and read again when it changes.
//!
//! The file holds 64 lower-case hex digits a line. Every line is accepted and the first is sent, so a token is rotated
//! by adding the new one below, then swapping them, then dropping the old one. If the file becomes bad, the last good
//! tokens stay in force. Tokens appear in no log, error or Debug output.

use raftkv_core::limits;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use subtle::{Choice, ConstantTimeEq};

const TOKEN_DIGITS: usize = 64;

/// Why a token file cannot be used.
#[allow(missing_docs, reason = "the sentence of each variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("token file {path}: {source}{}", advice(source))]
    Io { path: PathBuf, source: io::Error },
    /// A line is not a token. The line itself is not shown: it may be a secret.
    #[error("token file {path}: line {line} is not {TOKEN_DIGITS} lower-case hex digits")]
    BadLine { path: PathBuf, line: usize },
    /// A line would be a token in lower case, in which it is compared.
    #[error(
        "token file {path}: line {line} has upper-case digits; write them in lower case, in every copy of the file"
    )]
    UpperCase { path: PathBuf, line: usize },
    /// There is no token in it.
    #[error("token file {path} holds no token")]
    Empty { path: PathBuf },
    /// The file is too large for a token file.
    #[error("token file {path} is larger than {} bytes", limits::TOKEN_FILE_BYTES_MAX)]
    TooLarge { path: PathBuf },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; `openssl rand -hex 32` makes a token",
        io::ErrorKind::PermissionDenied => "; the user of this process must be able to read it",
        _ => "",
    }
}

/// Tells two states of a file apart. Kubernetes swaps a symbolic link, which changes the inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified_ns: (i64, i64),
    size: u64,
}

struct State {
    tokens: Vec<String>,
    /// The stamp of the file that was last read, good or bad; `None` if it could not be opened.
    stamp: Option<Stamp>,
    looked_at: Instant,
}

/// The tokens of a file, kept up to date.
pub struct TokenFile {
    path: PathBuf,
    look_every: Duration,
    state: Mutex<State>,
}

impl TokenFile {
    /// Reads the file, which must be good.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let (stamp, tokens) = read(path)?;
        Ok(TokenFile {
            path: path.to_path_buf(),
            look_every: Duration::from_millis(limits::TOKEN_CHECK_EVERY_MS),
            state: Mutex::new(State { tokens, stamp: Some(stamp), looked_at: Instant::now() }),
        })
    }

    /// Whether `presented` is one of the tokens; takes the same time whichever it is, and if it is none of them.
    pub fn accepts(&self, presented: &str) -> bool {
        let state = self.current();
        let equal = |token: &String| token.as_bytes().ct_eq(presented.as_bytes());
        state.tokens.iter().fold(Choice::from(0), |found, token| found | equal(token)).into()
    }

    /// The token to present to others.
    pub fn to_send(&self) -> String {
        self.current().tokens.first().expect("a file without a token is refused when it is read").clone()
    }

    /// The state, after another look at the file if one is due.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() >= self.look_every {
            state.looked_at = Instant::now();
            self.refresh(&mut state);
        }
        state
    }

    fn refresh(&self, state: &mut State) {
        let stamp = fs::metadata(&self.path).ok().map(|metadata| stamp_of(&metadata));
        if stamp == state.stamp {
            return;
        }
        // Remembered even if the file is bad: the log gets one error per change, not one per look.
        state.stamp = stamp;
        match read(&self.path) {
            Ok((stamp, tokens)) => {
                tracing::info!(path = %self.path.display(), tokens = tokens.len(), "token file read again");
                state.stamp = Some(stamp);
                state.tokens = tokens;
            }
            Err(error) => tracing::error!(%error, "the last good tokens stay in force"),
        }
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads the file. The stamp is taken from the file that was opened, so it belongs to these tokens whatever is renamed
/// meanwhile.
fn read(path: &Path) -> Result<(Stamp, Vec<String>), TokenError> {
    let io = |source| TokenError::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.len() > limits::TOKEN_FILE_BYTES_MAX {
        return Err(TokenError::TooLarge { path: path.to_path_buf() });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io)?;
    Ok((stamp_of(&metadata), parse(path, &text)?))
}

/// The tokens in the text of the file at `path`.
pub fn parse(path: &Path, text: &str) -> Result<Vec<String>, TokenError> {
    let is_token = |line: &str| {
        line.len() == TOKEN_DIGITS && line.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut tokens = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        if !is_token(line) && is_token(&line.to_ascii_lowercase()) {
            return Err(TokenError::UpperCase { path: path.to_path_buf(), line: i + 1 });
        }
        if !is_token(line) {
            return Err(TokenError::BadLine { path: path.to_path_buf(), line: i + 1 });
        }
        tokens.push(line.to_string());
    }
    if tokens.is_empty() {
        return Err(TokenError::Empty { path: path.to_path_buf() });
    }
    Ok(tokens)
}

fn stamp_of(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        size: metadata.size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_line_is_accepted_and_the_first_is_sent() {
        let (_dir, path) = file(&format!("{}\n\n{}\n", token('a'), token('b')));
        let tokens = TokenFile::open(&path).expect("good file");
        assert_eq!(tokens.to_send(), token('a'));
        for (presented, accepted) in [(token('a'), true), (token('b'), true), (token('c'), false)] {
            assert_eq!(tokens.accepts(&presented), accepted);
        }
        for presented in ["", "a", &token('a')[1..], &token('A'), &format!("{}\n", token('a'))] {
            assert!(!tokens.accepts(presented), "{presented}");
        }
    }

    #[test]
    fn bad_files_are_refused_and_never_shown() {
        let upper = token('A');
        for text in ["", "\n\n", "secret", &upper, &format!("{}\nsecret", token('a')), &"a".repeat(65)] {
            let (_dir, path) = file(text);
            let error = TokenFile::open(&path).expect_err(text).to_string();
            assert!(!error.contains("secret") && !error.contains("AAAA"), "{error}");
        }
        let (_dir, path) = file(&upper);
        assert!(matches!(TokenFile::open(&path), Err(TokenError::UpperCase { line: 1, .. })));
        let (_dir, path) = file(&format!("{}\n", token('a')).repeat(2000));
        assert!(matches!(TokenFile::open(&path), Err(TokenError::TooLarge { .. })));
        assert!(matches!(TokenFile::open(Path::new("/nonexistent/token")), Err(TokenError::Io { .. })));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_leaves_the_last_good_tokens() {
        let (dir, path) = file(&token('a'));
        let mut tokens = TokenFile::open(&path).expect("good file");
        tokens.look_every = Duration::ZERO;
        replace(dir.path(), &path, &token('b'));
        assert_eq!((tokens.accepts(&token('a')), tokens.accepts(&token('b'))), (false, true));
        replace(dir.path(), &path, "half a tok");
        assert!(tokens.accepts(&token('b')));
        fs::remove_file(&path).expect("file is there");
        assert!(tokens.accepts(&token('b')));
        replace(dir.path(), &path, &token('c'));
        assert_eq!((tokens.accepts(&token('b')), tokens.to_send()), (false, token('c')));
    }

    /// The kubelet does it this way: the file is a link into `..data`, which is a link that a rename replaces.
    #[test]
    fn a_secret_volume_that_is_swapped_as_a_whole_is_read_again() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let publish = |version: &str, text: &str| {
            fs::create_dir(dir.path().join(version)).expect("a new version");
            fs::write(dir.path().join(version).join("token"), text).expect("temporary file");
            symlink(version, dir.path().join("..data_tmp")).expect("a free name");
            fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).expect("same directory");
        };
        publish("..1", &token('a'));
        let path = dir.path().join("token");
        symlink("..data/token", &path).expect("a free name");
        let mut tokens = TokenFile::open(&path).expect("good file");
        tokens.look_every = Duration::ZERO;
        publish("..2", &format!("{}\n{}\n", token('a'), token('b')));
        fs::remove_dir_all(dir.path().join("..1")).expect("the kubelet removes the old version");
        assert!(tokens.accepts(&token('b')), "the new token is accepted");
        assert_eq!(tokens.to_send(), token('a'), "the old one is sent until it is the second");
    }

    #[test]
    fn the_file_is_not_looked_at_on_every_call() {
        let (dir, path) = file(&token('a'));
        let mut tokens = TokenFile::open(&path).expect("good file");
        tokens.look_every = Duration::from_secs(3600);
        replace(dir.path(), &path, &token('b'));
        assert!(tokens.accepts(&token('a')));
    }

    #[test]
    fn debug_output_shows_no_token() {
        let (_dir, path) = file(&token('a'));
        assert!(!format!("{:?}", TokenFile::open(&path).expect("good file")).contains("aaaa"));
    }

    fn token(digit: char) -> String {
        digit.to_string().repeat(TOKEN_DIGITS)
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("token");
        fs::write(&path, text).expect("temporary file");
        (dir, path)
    }

    fn replace(dir: &Path, path: &Path, text: &str) {
        fs::write(dir.join("new"), text).expect("temporary file");
        fs::rename(dir.join("new"), path).expect("same directory");
    }
}
