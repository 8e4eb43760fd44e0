//! `export`: all keys at one revision, as [`jsonl`] or [`deb822`].
//!
//! The first page is read linearizably and chooses the revision; the others name it, so writes that go on
//! meanwhile do not show. With `--node` one node alone is read: the first page asks the leader once for an
//! index (ReadIndex) and the data comes from that node's own store, so exports of two nodes at an equal
//! revision compare their stores.
//!
//! A file gets its name only when it is complete; standard output cannot be taken back, so the exit code tells.

use crate::args::{self, FileFormat};
use crate::context::Context;
use crate::kv::PAGE_KEYS;
use crate::progress::{Progress, per_second};
use crate::report::Failed;
use crate::streams::warn;
use crate::table::bytes;
use crate::{deb822, jsonl};
use raftkv_api::KeyValue;
use raftkv_client::bytes_text::{key_of, value_of};
use raftkv_client::{Client, RangeQuery};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub(crate) async fn export(context: &Context, args: args::Export) -> Result<(), Failed> {
    let client = match &args.node {
        Some(node) => Client::new(std::slice::from_ref(node))?,
        None => context.client()?,
    };
    let query = RangeQuery { prefix: args.prefix.into_vec().into(), ..RangeQuery::default() };
    if args.file == Path::new("-") {
        return copy(&client, query, args.format, &mut std::io::stdout()).await;
    }
    let told = |path: &Path| Failed::io(path.display().to_string());
    let partial = Partial(partial_name(&args.file));
    let mut file = File::create(&partial.0).map_err(told(&partial.0))?;
    copy(&client, query, args.format, &mut file).await?;
    file.sync_all().map_err(told(&partial.0))?;
    std::fs::rename(&partial.0, &args.file).map_err(told(&args.file))
}

/// The name of a file that is being written. An export that ends early, also by a signal, takes the file with it.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a success it has another name, and there is nothing to remove.
        let _renamed = std::fs::remove_file(&self.0);
    }
}

fn partial_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_os_string();
    name.push(".partial");
    name.into()
}

/// A reader that leaves early is a failure too: what it has is no export.
fn incomplete(source: std::io::Error) -> Failed {
    Failed::Incomplete { what: "the output".to_string(), source }
}

/// Reads all pages and writes them out, a page at a time.
async fn copy(client: &Client, query: RangeQuery, format: FileFormat, out: &mut impl Write) -> Result<(), Failed> {
    let mut pages = client.pages(query, PAGE_KEYS);
    let mut writer = Writer::new(format);
    // The total comes with the first page; the clock runs from before it.
    let mut progress = Progress::start("exported", 0);
    let (mut revision, mut keys, mut size) = (0, 0, 0);
    while let Some(page) = pages.next(PAGE_KEYS).await? {
        let mut buffer = Vec::new();
        for kv in &page.kvs {
            writer.write(&mut buffer, kv)?;
        }
        out.write_all(&buffer).map_err(incomplete)?;
        revision = page.revision;
        keys += page.kvs.len() as u64;
        size += buffer.len() as u64;
        progress.expect(page.count);
        progress.update(keys, size);
    }
    let mut rest = Vec::new();
    writer.finish(&mut rest);
    out.write_all(&rest).and_then(|()| out.flush()).map_err(incomplete)?;
    size += rest.len() as u64;
    let elapsed = progress.finish();
    let (size, seconds, rate) = (bytes(size), elapsed.as_secs_f64(), per_second(keys, elapsed));
    warn(&format!("exported {keys} keys, {size} in {seconds:.1} s ({rate:.0} keys/s) at revision {revision}\n"));
    Ok(())
}

enum Writer {
    Jsonl,
    Deb822(deb822::Writer),
}

impl Writer {
    fn new(format: FileFormat) -> Self {
        match format {
            FileFormat::Jsonl => Writer::Jsonl,
            FileFormat::Deb822 => Writer::Deb822(deb822::Writer::default()),
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, kv: &KeyValue) -> Result<(), Failed> {
        let (key, value) = (key_of(kv)?, value_of(kv)?);
        match self {
            Writer::Jsonl => jsonl::write(out, &key, &value),
            Writer::Deb822(stanzas) => stanzas.write(out, &key, &value)?,
        }
        Ok(())
    }

    fn finish(self, out: &mut Vec<u8>) {
        match self {
            Writer::Jsonl => {}
            Writer::Deb822(stanzas) => stanzas.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raftkv_api::Range;
    use raftkv_client::testing::{Reply, Server};

    #[tokio::test]
    async fn pages_become_one_file_that_can_be_imported() {
        let kv = |key: &str, value: &str| KeyValue {
            key: Some(key.to_string()),
            value: Some(value.to_string()),
            ..KeyValue::default()
        };
        let page = |kvs, next: Option<&str>| {
            Reply::json(200, &Range { revision: 3, kvs, count: 2, next: next.map(String::from) })
        };
        let script = || {
            let first = page(vec![kv("a", "Package: a\n")], Some("YQ"));
            [first, page(vec![kv("b", "Package: b\nX: 1\n")], None)]
        };
        for format in [FileFormat::Jsonl, FileFormat::Deb822] {
            let server = Server::start(script()).await;
            let client = Client::new(&[server.url()]).unwrap();
            let mut out = Vec::new();
            copy(&client, RangeQuery::default(), format, &mut out).await.unwrap();
            let out = Bytes::from(out);
            let records = match format {
                FileFormat::Jsonl => jsonl::parse(&out),
                FileFormat::Deb822 => deb822::parse(&out),
            };
            let keys: Vec<_> = records.unwrap().into_iter().map(|record| record.key).collect();
            assert_eq!(keys, ["a", "b"]);
        }
    }
}
