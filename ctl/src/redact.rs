//! Takes secrets out of what others are to read. Pure.
//!
//! What is known to be able to hold one is replaced whole: values of environment variables, arguments, the query of a health
//! check's path. What was found there is then looked for in everything else, and keys, join tokens and passwords in addresses
//! are, wherever they come from.

use goat_proto::v1::{ServiceSpec, health_check};

/// What stands in place of a secret.
pub const REDACTED: &str = "(redacted)";
/// Shorter values are words of any text: they are taken out of their specs only.
const MIN_CHARS: usize = 6;
const TOKEN: &str = "goat1-";
const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "-----END ";

/// Secrets that were found, and what to do with text that may repeat them.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first: one may be a part of another.
    secrets: Vec<String>,
}

impl Redactor {
    /// Takes the secrets out of a spec, and remembers them.
    pub fn spec(&mut self, spec: &mut ServiceSpec) {
        for value in spec.env.values_mut() {
            self.take(value);
        }
        let words = spec.command.iter_mut().skip(1).chain(&mut spec.args);
        words.for_each(|word| self.take(word));
        match spec.health.as_mut().and_then(|health| health.probe.as_mut()) {
            Some(health_check::Probe::Command(probe)) => probe.argv.iter_mut().skip(1).for_each(|word| self.take(word)),
            Some(health_check::Probe::Http(probe)) => {
                if let Some(at) = probe.path.find('?') {
                    let mut query = probe.path.split_off(at + 1);
                    self.take(&mut query);
                    probe.path.push_str(&query);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, value: &mut String) {
        let secret = std::mem::replace(value, REDACTED.to_owned());
        if secret.chars().count() < MIN_CHARS || secret == REDACTED {
            return;
        }
        // As it stands in JSON, and in what is printed for programmers.
        let quoted = serde_json::to_string(&secret).unwrap_or_default();
        let inner = quoted.trim_matches('"').to_owned();
        for form in [secret, inner] {
            if !self.secrets.contains(&form) {
                self.secrets.push(form);
            }
        }
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
        text = without_keys(&text);
        text = without_words(&text, TOKEN, |c| c.is_ascii_alphanumeric() || c == '-');
        without_passwords(&text)
    }
}

/// Without private keys in PEM, whole or cut short.
fn without_keys(text: &str) -> String {
    let (mut rest, mut out) = (text, String::with_capacity(text.len()));
    while let Some(at) = rest.find(KEY_BEGIN) {
        let (before, block) = rest.split_at(at);
        let label = block.get(KEY_BEGIN.len()..).and_then(|after| after.split("-----").next()).unwrap_or_default();
        let end = block.find(KEY_END).map_or(block.len(), |end| {
            let after = end + KEY_END.len();
            block[after..].find("-----").map_or(block.len(), |dashes| after + dashes + 5)
        });
        out.push_str(before);
        out.push_str(if label.contains("PRIVATE KEY") { REDACTED } else { &block[..end] });
        rest = &block[end..];
    }
    out + rest
}

/// Without words that begin so.
fn without_words(text: &str, begin: &str, is_part: impl Fn(char) -> bool) -> String {
    let (mut rest, mut out) = (text, String::with_capacity(text.len()));
    while let Some(at) = rest.find(begin) {
        let (before, word) = rest.split_at(at);
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        out.push_str(before);
        out.push_str(REDACTED);
        rest = &word[end..];
    }
    out + rest
}

/// `http://user:password@host` without the two.
fn without_passwords(text: &str) -> String {
    let (mut rest, mut out) = (text, String::with_capacity(text.len()));
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/\"'<>(),".contains(c)).unwrap_or(after.len());
        if let Some(host) = after[..end].rfind('@') {
            out.push_str(REDACTED);
            rest = &after[host..];
        } else {
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use goat_proto::v1::{CommandProbe, HealthCheck, HttpProbe};

    use super::*;

    #[test]
    fn a_spec_loses_what_can_be_secret_and_keeps_the_rest() {
        let mut redactor = Redactor::default();
        let mut spec = ServiceSpec {
            name: "web".into(),
            image: "registry.example/web:1".into(),
            command: vec!["/bin/web".into(), "--password".into(), "hunter2-and-more".into()],
            args: vec!["9".into()],
            env: [("DB".to_owned(), "pa\"ss\nword".to_owned()), ("N".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let probe = health_check::Probe::Http(HttpProbe { port: 1, path: "/health?key=abcdefgh".into() });
        spec.health = Some(HealthCheck { probe: Some(probe), ..Default::default() });
        redactor.spec(&mut spec);
        assert_eq!(spec.command, ["/bin/web", REDACTED, REDACTED]);
        assert_eq!((spec.args.as_slice(), spec.env["DB"].as_str()), ([REDACTED.to_owned()].as_slice(), REDACTED));
        let text = format!("{:?}", spec.health);
        assert!(text.contains("/health?(redacted)") && !text.contains("abcdefgh"), "{text}");
        let logs = "cannot start: pa\"ss\nword; {\"detail\":\"pa\\\"ss\\nword\"} and hunter2-and-more, try 1 of 9";
        let clean = "cannot start: (redacted); {\"detail\":\"(redacted)\"} and (redacted), try 1 of 9";
        assert_eq!(redactor.text(logs), clean);
        assert_eq!(redactor.text(clean), clean, "once more changes nothing");
    }

    #[test]
    fn a_probing_command_loses_its_arguments() {
        let mut redactor = Redactor::default();
        let probe = health_check::Probe::Command(CommandProbe { argv: vec!["check".into(), "--token=abc123".into()] });
        let health = Some(HealthCheck { probe: Some(probe), ..Default::default() });
        let mut spec = ServiceSpec { health, ..Default::default() };
        redactor.spec(&mut spec);
        let text = format!("{spec:?}");
        assert!(text.contains("\"check\", \"(redacted)\"") && !text.contains("abc123"), "{text}");
    }

    #[test]
    fn keys_tokens_and_passwords_are_taken_out_of_any_text() {
        let redactor = Redactor::default();
        let public = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let text = format!(
            "a -----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY----- b {public} c goat1-worker-abc-def. d \
             http://u:p@host:1/x e http://host/a@b f -----BEGIN PRIVATE KEY-----\nMC"
        );
        let clean = redactor.text(&text);
        let expected = format!(
            "a (redacted) b {public} c (redacted). d http://(redacted)@host:1/x e http://host/a@b f (redacted)"
        );
        assert_eq!(clean, expected);
    }
}
