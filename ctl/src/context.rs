//! What a command runs with: what was asked of all commands alike, the clients made from it, and the runtime.

use crate::args::{Global, Output};
use crate::report::Failed;
use raftkv_client::admin::Admin;
use raftkv_client::{Client, Token};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long tasks that are left may take to end.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// What every command needs.
pub(crate) struct Context {
    pub global: Global,
    pub output: Output,
    /// The token, where it does not come from a file.
    pub token: Option<Token>,
}

impl Context {
    /// A client of the endpoints.
    pub(crate) fn client(&self) -> Result<Client, Failed> {
        Ok(Client::new(&self.global.endpoints)?)
    }

    /// The cluster's token.
    pub(crate) fn token(&self) -> Result<Token, Failed> {
        match &self.token {
            Some(token) => Ok(token.clone()),
            None => Ok(Token::read(&self.global.token_file)?),
        }
    }

    /// A client of the admin API, at the given admin endpoints or at those that the endpoints name.
    pub(crate) async fn admin(&self) -> Result<Admin, Failed> {
        let token = self.token()?;
        match &self.global.admin_endpoints[..] {
            [] => Ok(Admin::discover(&self.global.endpoints, token).await?),
            urls => Ok(Admin::new(urls, token)?),
        }
    }
}

/// Ends with the first SIGINT or SIGTERM. What is dropped then ends its children and removes its files, which a signal
/// alone would not.
pub(crate) async fn signalled() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// What the commands run on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::io("cannot start"))
}
