//! What a case sends, and what comes of it.

use std::time::Duration;

use tokio::time::sleep;

use super::Course;
use super::Record;
use super::Runner;
use super::Stop;
use super::label;
use super::latin1;
use crate::case::Case;
use crate::case::Expected;
use crate::expect;
use crate::wire::Wire;
use crate::wire::h1;
use crate::wire::h2;
use crate::world::browser::Browser;
use crate::world::browser::Flow;

impl Runner {
    /// Exact bytes on a fresh connection.
    pub(crate) async fn h1(
        &mut self,
        text: &str,
        case: &Case,
        course: &mut Course,
    ) -> Result<(), Stop> {
        let expected = expect::of(case, course.records.len());
        let wire = course.over(self.wire(text)?);
        let bytes = self.bytes(text, course).await?;
        let before = self.world.upstream.count();
        let wish = h1::Wish {
            closed: expected.closed == Some(true),
            patience: None,
        };
        let outcome = h1::send(&wire, &bytes, wish).await;
        let nonce = outcome.answers.first().and_then(|a| a.header("dpop-nonce"));
        if let Some(nonce) = nonce {
            course.vars.set("NONCE", nonce.to_owned());
        }
        let mut record = Record {
            label: label(text),
            outcome,
            ..Record::default()
        };
        if course.follow {
            self.follow(&mut record).await?;
        }
        self.settle(&expected).await;
        record.upstream = self.world.upstream.since(before);
        course.records.push(record);
        Ok(())
    }

    pub(super) async fn h2(
        &mut self,
        headers: &[(String, String)],
        body: Option<&str>,
        case: &Case,
        course: &mut Course,
    ) -> Result<(), Stop> {
        let expected = expect::of(case, course.records.len());
        let mut raw = Vec::new();
        for (name, value) in headers {
            let name = self.bytes(name, course).await?;
            raw.push((name, self.bytes(value, course).await?));
        }
        let body = match body {
            Some(body) => Some(self.bytes(body, course).await?),
            None => None,
        };
        let wire = course.over(self.world.public(self.target()?));
        let before = self.world.upstream.count();
        let outcome = h2::send(&wire, &raw, body.as_deref()).await;
        let path = headers.iter().find(|(name, _)| name == ":path");
        let label = format!("h2 {}", path.map_or("", |(_, value)| value));
        self.settle(&expected).await;
        course.records.push(Record {
            label,
            outcome,
            upstream: self.world.upstream.since(before),
            ..Record::default()
        });
        Ok(())
    }

    /// What comes late must be counted, too.
    async fn settle(&self, expected: &Expected) {
        let time = if expected.upstream_smuggled.is_some() {
            60
        } else {
            2
        };
        sleep(Duration::from_millis(time)).await;
    }

    /// Where a request goes: what names the admin port, to the admin listener.
    pub(super) fn wire(&self, text: &str) -> Result<Wire, Stop> {
        let target = self.target()?;
        let host = text
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Host: "));
        Ok(if host.is_some_and(|host| host.ends_with(":9901")) {
            Wire {
                to: target.admin,
                tls: None,
            }
        } else {
            self.world.public(target)
        })
    }

    /// The bytes of a text: our names, values for `${…}`, latin-1; the length of a body that grew is put right.
    pub(crate) async fn bytes(&mut self, text: &str, course: &mut Course) -> Result<Vec<u8>, Stop> {
        let (head, body) = match text.split_once("\r\n\r\n") {
            Some((head, body)) => (head, Some(body)),
            None => (text, None),
        };
        let mut head = course.vars.fill(self, head).await?;
        let Some(body) = body else {
            return Ok(latin1(&head));
        };
        let filled = latin1(&course.vars.fill(self, body).await?);
        let said = format!("Content-Length: {}", body.chars().count());
        if filled.len() != body.chars().count() && head.contains(&said) {
            head = head.replace(&said, &format!("Content-Length: {}", filled.len()));
        }
        Ok([latin1(&head), b"\r\n\r\n".to_vec(), filled].concat())
    }

    /// Follows a login that an answer began to its end.
    async fn follow(&self, record: &mut Record) -> Result<(), Stop> {
        let Some(answer) = record.outcome.answers.first() else {
            return Ok(());
        };
        let location = answer.header("location").unwrap_or_default().to_owned();
        if !location.contains("/authorize?") {
            return Ok(());
        }
        let mut browser = Browser::default();
        for pair in answer.all("set-cookie") {
            if let Some((name, value)) = pair.split(';').next().and_then(|p| p.split_once('=')) {
                browser.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let flow = Flow {
            location,
            state: String::new(),
            cookie: (String::new(), String::new()),
        };
        let wire = self.world.public(self.target()?);
        let done = browser
            .finish(&self.world, &wire, &flow, "alice")
            .await
            .map_err(Stop::Fail)?;
        if done.header("location").is_none() {
            return Err(Stop::Fail(format!(
                "{}: the login ended with {}",
                record.label, done.status
            )));
        }
        record.followed.push(done);
        Ok(())
    }
}
