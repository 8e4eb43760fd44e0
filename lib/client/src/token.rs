//! The cluster's bearer token, which every call of the admin API shows, and the file that holds it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Hex digits of a token.
pub const TOKEN_DIGITS: usize = 64;

/// The cluster's bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A token is a secret and is not printed.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The text does not begin with a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first line is not {TOKEN_DIGITS} hex digits in lower case")]
pub struct NotAToken;

/// There is no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its first line is no token.
    #[error("token file {}: {source}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NotAToken,
    },
}

impl FromStr for Token {
    type Err = NotAToken;

    /// Reads the text of a token file: the first line is the token to send (rule O5).
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let token = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if token.len() != TOKEN_DIGITS
            || !token.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(NotAToken);
        }
        Ok(Token(token.to_string()))
    }
}

impl Token {
    /// Reads a token file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.to_path_buf(), source })?;
        text.parse().map_err(|source| TokenError::Malformed { path: path.to_path_buf(), source })
    }

    /// The value of the header `Authorization`.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_first_line_is_the_token_to_send() {
        let two = format!("\n {}\n{}\n", "1a".repeat(32), "2b".repeat(32));
        assert!(two.parse::<Token>().is_ok_and(|token| token.0 == "1a".repeat(32)));
        for bad in ["", "1a", &"1A".repeat(32), &"1g".repeat(32), &"1a".repeat(33)] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_token_of_the_file_is_sent() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Token::read(file.path()), Err(TokenError::Malformed { .. })));
        writeln!(file, "{}\n{}", "1a".repeat(32), "2b".repeat(32)).unwrap();
        assert_eq!(Token::read(file.path()).unwrap().bearer(), format!("Bearer {}", "1a".repeat(32)));
        assert!(matches!(Token::read(Path::new("/nonexistent")), Err(TokenError::Read { .. })));
    }
}
