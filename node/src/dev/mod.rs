//! `raftkv dev`: a cluster of three nodes on this machine, with one command.
//!
//! Three children `raftkv serve` are started and kept running; one that died is started again after a second. Their
//! cluster is formed with the same calls that an operator makes: init one, add and promote the others. Nothing here is
//! a special path in the node. Ctrl-C stops all three; their data stay.
//!
//! The files in `dev/`: `layout` says where everything is, `child` keeps one child running, `form` (pure) decides what is
//! lacking, `cluster` makes the calls, and `tail` shows logs on the terminal.

mod child;
mod cluster;
mod form;
pub(crate) mod layout;
mod tail;

use crate::cli::DevArgs;
use crate::words;
use child::{Event, keep_running, log_tail};
use cluster::{Forming, Health};
use layout::{Layout, LayoutError};
use raftkv_client::bytes_text::shell_word;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The nodes of a run that was killed need a moment to notice; so long a port may still be in use.
const PORTS_FREE_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two looks at the ports.
const PORTS_EVERY: Duration = Duration::from_millis(20);
/// Events that may wait; each child sends two a second at most.
const EVENTS_MAX: usize = 64;

/// Runs the cluster until SIGINT or SIGTERM.
pub fn run(args: DevArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(dev(args))
}

async fn dev(args: DevArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stop_signals =
        StopSignals { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? };
    // Asked once: when `cargo build` replaces the program under a running cluster, its path names nothing any more.
    let program = std::env::current_exe()?;
    let layout = Layout::prepare(&args.data_dir, args.port_base)?;
    free_ports(&layout).await?;

    let (events_tx, events) = mpsc::channel(EVENTS_MAX);
    let (stop, stopped) = watch::channel(false);
    let mut children = JoinSet::new();
    let mut tails = JoinSet::new();
    for place in &layout.places {
        if args.verbose {
            tails.spawn(tail::follow(place.clone()));
        }
        children.spawn(keep_running(
            program.clone(),
            layout.clone(),
            place.clone(),
            events_tx.clone(),
            stopped.clone(),
        ));
    }

    let mut nodes = Nodes { layout: &layout, ctl: beside(&program), events, pids: BTreeMap::new() };
    let ran = tokio::select! {
        ran = nodes.run(begun) => ran,
        () = stop_signals.recv() => {
            words::tell(format_args!("\nstopping the nodes; their data stay in {}", layout.dir.display()));
            Ok(())
        }
    };
    stop.send_replace(true);
    // The channel is bounded: with nobody receiving, a child's last words must not hold it up.
    drop(nodes);
    children.join_all().await;
    ran
}

async fn free_ports(layout: &Layout) -> Result<(), LayoutError> {
    let begun = Instant::now();
    loop {
        match layout.check_ports() {
            Err(LayoutError::PortInUse { .. }) if begun.elapsed() < PORTS_FREE_WITHIN => {
                tokio::time::sleep(PORTS_EVERY).await;
            }
            checked => return checked,
        }
    }
}

struct StopSignals {
    int: Signal,
    term: Signal,
}

impl StopSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// The running children, as their events tell of them.
struct Nodes<'a> {
    layout: &'a Layout,
    /// The command line, as it is to be typed.
    ctl: String,
    events: mpsc::Receiver<Event>,
    pids: BTreeMap<&'static str, u32>,
}

impl Nodes<'_> {
    /// Forms the cluster, says that it is ready, and tells what happens from then on. Ends with an error only.
    async fn run(&mut self, begun: Instant) -> anyhow::Result<()> {
        let layout = self.layout;
        let forming = Forming::new(layout);
        let health = tokio::select! {
            formed = forming.run() => formed?,
            error = self.first_failure() => return Err(error),
        };
        // All three have answered, so what is left in the channel is how they started.
        while let Ok(event) = self.events.try_recv() {
            self.note(&event);
        }
        words::tell(self.banner(&health, begun.elapsed()));
        while let Some(event) = self.events.recv().await {
            self.note(&event);
            words::tell(told(&event));
        }
        anyhow::bail!("nothing keeps the nodes running any more")
    }

    /// A node may end once and be started again, as it does to rebuild a kv db that it cannot trust. One that ends
    /// twice before the cluster stands would go on doing so: what it said is the answer.
    async fn first_failure(&mut self) -> anyhow::Error {
        let mut ended_before = BTreeSet::new();
        while let Some(event) = self.events.recv().await {
            self.note(&event);
            let name = match event {
                Event::Started { .. } => continue,
                Event::Ended { name, .. } | Event::NotStarted { name, .. } => name,
            };
            if !ended_before.insert(name) {
                let log = self.layout.places.iter().find(|place| place.name == name).map(|place| &place.log);
                let said = log.map(|log| format!("; the end of {}:{}", log.display(), log_tail(log)));
                return anyhow::anyhow!("{} while it was starting{}", how_it_ended(&event), said.unwrap_or_default());
            }
            words::tell(told(&event));
        }
        anyhow::anyhow!("nothing keeps the nodes running any more")
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Started { name, pid } => self.pids.insert(name, *pid),
            Event::Ended { name, .. } | Event::NotStarted { name, .. } => self.pids.remove(name),
        };
    }

    fn banner(&self, health: &[Health], took: Duration) -> String {
        let serving = health.iter().filter(|health| matches!(health, Health::Serves)).count();
        let mut text = format!("{serving} of 3 nodes are ready after {:.2} s\n\n", took.as_secs_f64());
        for (place, health) in self.layout.places.iter().zip(health) {
            let pid = self.pids.get(place.name).map_or_else(|| "-".to_string(), u32::to_string);
            let line =
                format!("  {}  {:<24} admin {:<24} pid {pid}\n", place.name, place.client_url(), place.admin_url());
            text.push_str(&line);
            if let Health::Out(why) = health {
                text.push_str(&format!("      {why}\n"));
            }
        }
        let [n1, n2, _] = &self.layout.places;
        let (dir, file) = (self.layout.dir.display(), self.layout.token_file.display());
        let token = shell_word(&self.layout.token_file.to_string_lossy());
        let all = self.layout.places.each_ref().map(|place| place.client_url()).join(",");
        let (first, second) = (n1.client_url(), n2.client_url());
        let pid = self.pids.get(n1.name).copied().unwrap_or_default();
        let ctl = &self.ctl;
        text.push_str(&format!(
            "
  data   {dir}/n1, n2 and n3, kept between runs
  token  {file}
  logs   {dir}/logs/n1.log, n2.log and n3.log

Try in another terminal:
  curl -X PUT --data-binary world {first}/v1/kv/hello
  curl {second}/v1/kv/hello
  {ctl} --endpoints {all} --token-file {token} status
  kill -9 {pid}    # n1 comes back after 1 s and has lost nothing

Ctrl-C stops the nodes."
        ));
        text
    }
}

/// Whoever runs a program that was just built has its companion beside it, and not in the search path.
fn beside(program: &Path) -> String {
    let ctl = program.with_file_name("raftkvctl");
    if ctl.is_file() { shell_word(&ctl.to_string_lossy()) } else { "raftkvctl".to_string() }
}

fn how_it_ended(event: &Event) -> String {
    match event {
        Event::Started { name, pid } => format!("{name} runs again, pid {pid}"),
        Event::Ended { name, how } => format!("{name} ended ({how})"),
        Event::NotStarted { name, error } => format!("{name} could not be started ({error})"),
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Started { .. } => how_it_ended(event),
        Event::Ended { .. } | Event::NotStarted { .. } => {
            format!("{}; it is started again after 1 s", how_it_ended(event))
        }
    }
}
