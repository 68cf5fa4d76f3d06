//! Formats: what each asserts of a string.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::time;

/// A `format` of the subset. Each is asserted, never an annotation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339 full-date.
    Date,
    /// RFC 3339 date-time.
    DateTime,
    /// RFC 3339 full-time, with its offset.
    Time,
    /// RFC 3339 appendix A (ISO 8601).
    Duration,
    /// RFC 5321 mailbox.
    Email,
    /// RFC 3986, absolute.
    Uri,
    /// RFC 4122, with hyphens.
    Uuid,
    /// RFC 2673 dotted quad.
    Ipv4,
    /// RFC 4291, without a zone.
    Ipv6,
    /// RFC 1123.
    Hostname,
}

impl Format {
    /// With their names in a contract.
    pub const ALL: [(&'static str, Self); 10] = [
        ("date", Self::Date),
        ("date-time", Self::DateTime),
        ("time", Self::Time),
        ("duration", Self::Duration),
        ("email", Self::Email),
        ("uri", Self::Uri),
        ("uuid", Self::Uuid),
        ("ipv4", Self::Ipv4),
        ("ipv6", Self::Ipv6),
        ("hostname", Self::Hostname),
    ];

    /// Its name in a contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// Whether a string is of it.
    pub fn is_match(self, text: &str) -> bool {
        match self {
            Self::Date => time::date(text).is_some(),
            Self::DateTime => time::is_date_time(text),
            Self::Time => time::is_time(text),
            Self::Duration => is_duration(text),
            Self::Email => is_email(text),
            // A literal's brackets hold an address, which a mere reading of the grammar leaves to its user.
            Self::Uri => fluent_uri::Uri::parse(text).is_ok(),
            Self::Uuid => is_uuid(text),
            Self::Ipv4 => Ipv4Addr::from_str(text).is_ok(),
            Self::Ipv6 => Ipv6Addr::from_str(text).is_ok(),
            Self::Hostname => is_hostname(text),
        }
    }
}

fn is_email(text: &str) -> bool {
    // Almost every address is plain: words with points between them, and a host.
    if let Some(plain) = is_plain_email(text) {
        return plain;
    }
    use email_address::{EmailAddress, Options};
    let options = Options::default().without_display_text();
    if EmailAddress::parse_with_options(text, options).is_err() {
        return false;
    }
    let Some((_, domain)) = text.rsplit_once('@') else { return false };
    match domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        Some(literal) => match literal.strip_prefix("IPv6:") {
            Some(address) => Ipv6Addr::from_str(address).is_ok(),
            None => Ipv4Addr::from_str(literal).is_ok(),
        },
        None => text.is_ascii() && is_hostname(domain),
    }
}

/// Whether it is an address; `None` if it is not plain enough to be told at a glance.
fn is_plain_email(text: &str) -> Option<bool> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|b| *b == b'@')?;
    let (local, domain) = bytes.split_at(at);
    // Beginning, end, and what is beside a point count as points: none may be empty.
    let mut before = b'.';
    for byte in local {
        match byte {
            b'.' if before == b'.' => return Some(false),
            b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {}
            b'!'
            | b'#'..=b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'/'
            | b'='
            | b'?'
            | b'^'..=b'`'
            | b'{'..=b'~' => {}
            _ => return None,
        }
        before = *byte;
    }
    let domain = domain.get(1..).unwrap_or_default();
    if domain.first() == Some(&b'[') {
        return None;
    }
    Some(local.len() <= 64 && before != b'.' && is_host(domain))
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    // All of them at once: a branch for each would cost more than it saves.
    bytes.len() == 36
        && hyphens.iter().all(|at| bytes.get(*at) == Some(&b'-'))
        && bytes.iter().fold(0, |count, b| count + usize::from(b.is_ascii_hexdigit())) == 32
}

fn is_hostname(text: &str) -> bool {
    is_host(text.as_bytes())
}

fn is_host(bytes: &[u8]) -> bool {
    // A label's first place is 0; a point, and the end, want a label that did not end in a hyphen.
    let (mut place, mut before) = (0, b'.');
    for byte in bytes {
        match byte {
            b'.' if place == 0 || before == b'-' => return false,
            b'.' => place = 0,
            b'-' if place == 0 => return false,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' => place += 1,
            _ => return false,
        }
        if place > 63 {
            return false;
        }
        before = *byte;
    }
    // The third and fourth place are reserved: only `xn--` has a meaning there (RFC 5891).
    let reserved = bytes.windows(4).enumerate().any(|(at, window)| {
        let begins = at == 0 || at.checked_sub(1).and_then(|i| bytes.get(i)) == Some(&b'.');
        begins && window.ends_with(b"--") && !window.eq_ignore_ascii_case(b"xn--")
    });
    place > 0 && before != b'-' && bytes.len() <= 253 && !reserved
}

/// `P` with years, months, weeks, days, then perhaps `T` with hours, minutes, seconds, each a whole number, in this order
/// and without a gap in the grammar: a unit may only be followed by the next smaller ones; weeks stand alone.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (rest, None),
    };
    // The units in the order they may come; RFC 3339 lets none be left out between two that are there.
    let run = |text: &str, units: &str| -> Option<bool> {
        let mut rest = text;
        let mut last: Option<usize> = None;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let unit = rest.get(digits..)?.chars().next()?;
            let place = units.find(unit)?;
            if digits == 0 || last.is_some_and(|last| place != last + 1) {
                return None;
            }
            last = Some(place);
            rest = rest.get(digits + unit.len_utf8()..)?;
        }
        Some(last.is_some())
    };
    if time.is_none() && run(date, "W") == Some(true) {
        return true;
    }
    match (run(date, "YMD"), time.map(|time| run(time, "HMS"))) {
        (Some(dated), None) => dated,
        (Some(_), Some(Some(timed))) => timed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each format, texts that are of it and texts that are not.
    #[test]
    fn formats_assert() {
        let cases: [(Format, &[&str], &[&str]); 10] = [
            (Format::Date, &["2024-02-29"], &["2023-02-29", "2024-2-29", "20240229", "2024-13-01"]),
            (
                Format::DateTime,
                &[
                    "2013-01-01T05:00:00Z",
                    "1998-12-31T23:59:60Z",
                    "1998-12-31T15:59:60.123-08:00",
                    "1990-02-28t10:00:00.1234567z",
                ],
                &[
                    "2013-01-01 05:00:00Z",
                    "2013-01-01T05:00:00",
                    "1998-12-31T22:59:60Z",
                    "2013-01-01T24:00:00Z",
                    "2013-01-01T05:00:00.Z",
                ],
            ),
            (
                Format::Time,
                &["08:30:06Z", "23:59:60+00:00", "01:29:60+01:30"],
                &["08:30:06", "8:30:06Z", "24:00:00Z", "12:00:60Z"],
            ),
            (
                Format::Duration,
                &["P4DT12H30M5S", "P4Y", "PT0S", "P1M", "PT1M", "P2W", "P1Y2M3D"],
                &[
                    "", "P", "PT", "P1YT", "4DT", "P1D2H", "P2S", "P1Y2W", "P2D1Y", "PT1D",
                    "PT1.5S", "P１Y", "P1Y1D", "PT1H1S",
                ],
            ),
            (
                Format::Email,
                &[
                    "joe@example.com",
                    "te~st@example.com",
                    "\"joe bloggs\"@example.com",
                    "joe@[127.0.0.1]",
                    "joe@[IPv6:::1]",
                ],
                &[
                    "2962",
                    ".a@example.com",
                    "a..b@example.com",
                    "joe@",
                    "joe@[127.0.0.300]",
                    "joe@exa mple.com",
                    "Joe <joe@example.com>",
                ],
            ),
            (
                Format::Uri,
                &["http://foo.bar/?baz=qux#quux", "urn:oid:1.2", "mailto:a@b.c", "http://[::1]/"],
                &["//foo.bar", "/abc", "\\\\share", "foo", "http:// x", ":// y", "http://a/%zz"],
            ),
            (
                Format::Uuid,
                &["2EB8AA08-aa98-11EA-b4aa-73B441D16380", "00000000-0000-0000-0000-000000000000"],
                &[
                    "2eb8aa08aa9811eab4aa73b441d16380",
                    "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
                    "2eb8-aa08-aa98-11ea-b4aa73b44-1d16380",
                ],
            ),
            (
                Format::Ipv4,
                &["192.168.0.1"],
                &["256.1.1.1", "1.2.3", "01.2.3.4", "0x7f.1.1.1", "1.2.3.4/8"],
            ),
            (
                Format::Ipv6,
                &["::1", "::ffff:1.2.3.4", "a:b:c:d:e:f:1:2"],
                &["12345::", "fe80::1%eth0", "1::2::3", "::1/64"],
            ),
            (
                Format::Hostname,
                &["www.example.com", "a", "xn--4gbwdl.xn--wgbh1c", "1host"],
                &["", "-a", "a-", "a_b", "a..b", "a.", "XN-a--b_", "aa--b"],
            ),
        ];
        for (format, good, bad) in cases {
            for text in good {
                assert!(format.is_match(text), "{}: {text}", format.name());
            }
            for text in bad {
                assert!(!format.is_match(text), "{}: {text}", format.name());
            }
        }
        let long = format!("{}.com", "a".repeat(64));
        assert!(!Format::Hostname.is_match(&long));
    }
}
