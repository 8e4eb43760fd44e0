//! A range, page by page, at one revision: the first page chooses the revision, and the others name it.

use crate::error::Error;
use crate::http::{Call, parse};
use crate::kv::{Client, Query, ReadOptions};
use bytes::Bytes;
use raftkv_api::Range;

/// Which keys to read, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeQuery {
    /// Keys that begin with this; when it is not empty, `start` and `end` must be absent.
    pub prefix: Bytes,
    /// Keys from this one on, itself included.
    pub start: Option<Bytes>,
    /// Keys up to this one, itself excluded.
    pub end: Option<Bytes>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// As in a read of one key.
    pub read: ReadOptions,
}

/// The pages of a range; see [`Client::pages`].
pub struct Pages<'a> {
    client: &'a Client,
    query: RangeQuery,
    page_keys: u64,
    next: Next,
}

enum Next {
    First,
    After(String),
    End,
}

impl Pages<'_> {
    /// The next page, or `None` after the last one. At most `keys_max` keys, and never more than a page.
    pub async fn next(&mut self, keys_max: u64) -> Result<Option<Range>, Error> {
        let after = match &self.next {
            Next::First => None,
            Next::After(key) => Some(key.as_str()),
            Next::End => return Ok(None),
        };
        let page = self.client.page(&self.query, self.page_keys.min(keys_max), after).await?;
        self.query.read.revision = Some(page.revision);
        self.next = match &page.next {
            Some(key) => Next::After(key.clone()),
            None => Next::End,
        };
        Ok(Some(page))
    }
}

impl Client {
    /// Reads a range page by page, all pages at the revision of the first one.
    pub fn pages(&self, query: RangeQuery, page_keys: u64) -> Pages<'_> {
        Pages { client: self, query, page_keys, next: Next::First }
    }

    /// Reads one page: at most `limit` keys, after the last key of the page before.
    async fn page(&self, range: &RangeQuery, limit: u64, after: Option<&str>) -> Result<Range, Error> {
        let mut query = Query::default();
        query.bytes("prefix", Some(&range.prefix).filter(|prefix| !prefix.is_empty()));
        query.bytes("start", range.start.as_ref());
        query.bytes("end", range.end.as_ref());
        query.flag("keys_only", range.keys_only && !range.count_only);
        query.flag("count_only", range.count_only);
        query.read(range.read);
        if !range.count_only {
            query.text("limit", &limit.to_string());
        }
        if let Some(after) = after {
            query.text("after", after);
        }
        let (endpoint, answer) = self.failover.call(&Call::get(query.target("/v1/kv"))).await?;
        parse(endpoint, false, &answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Server};
    use raftkv_api::KeyValue;

    fn page(revision: u64, keys: &[&str], next: Option<&str>) -> Reply {
        let kv = |key: &&str| KeyValue { key: Some(key.to_string()), ..KeyValue::default() };
        let kvs = keys.iter().map(kv).collect();
        Reply::json(200, &Range { revision, kvs, count: 3, next: next.map(String::from) })
    }

    #[tokio::test]
    async fn further_pages_name_the_revision_of_the_first() {
        let server = Server::start([page(7, &["a", "b"], Some("Yg")), page(7, &["c"], None)]).await;
        let client = Client::new(&[server.url()]).unwrap();
        let query = RangeQuery { prefix: "p/".into(), ..RangeQuery::default() };
        let mut pages = client.pages(query, 2);
        let mut keys = Vec::new();
        while let Some(page) = pages.next(u64::MAX).await.unwrap() {
            keys.extend(page.kvs.into_iter().filter_map(|kv| kv.key));
        }
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(
            server.targets(),
            ["GET /v1/kv?prefix=p%2F&limit=2", "GET /v1/kv?prefix=p%2F&revision=7&limit=2&after=Yg"]
        );
    }

    #[tokio::test]
    async fn a_page_lost_on_one_node_is_read_on_another_at_the_same_revision() {
        let dying = Server::start([page(7, &["a"], Some("YQ")), Reply::Hangup]).await;
        let healthy = Server::start([page(7, &["b"], None)]).await;
        let client = Client::new(&[dying.url(), healthy.url()]).unwrap();
        let mut pages = client.pages(RangeQuery::default(), 1);
        pages.next(u64::MAX).await.unwrap();
        assert_eq!(pages.next(u64::MAX).await.unwrap().unwrap().kvs[0].key.as_deref(), Some("b"));
        assert_eq!(healthy.targets(), ["GET /v1/kv?revision=7&limit=1&after=YQ"]);
    }
}
