//! A page of text, lists and tables, as Markdown and as HTML.
//!
//! Guarantee: whatever the texts are, they end up as text: nothing in them is markup, ends a line or a cell, reorders what is
//! shown or steers a terminal. The HTML loads nothing and runs nothing.

use std::fmt::Write;

/// A page, from top to bottom.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) title: String,
    /// Says how the headline is coloured.
    pub(super) tone: &'static str,
    pub(super) headline: String,
    pub(super) sections: Vec<Section>,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
pub(super) enum Block {
    Text(String),
    Lines(Vec<String>),
    Table {
        head: Vec<&'static str>,
        rows: Vec<Vec<Cell>>,
    },
    /// To be copied: one line each.
    Code(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) enum Cell {
    Text(String),
    /// To the right.
    Number(String),
    /// A value or a name, as it is written.
    Code(String),
}

/// The longest text of a cell or a line, in characters.
const LONGEST: usize = 400;

const STYLE: &str = "\
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}\
body{max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:1.8rem 0 .5rem}\
.headline{padding:.7rem 1rem;border-left:.4rem solid;border-radius:.2rem;font-weight:600;overflow-wrap:anywhere}\
.publish{border-color:#2a7d46;background:#2a7d4622}.hold{border-color:#b7791f;background:#b7791f22}\
.reject{border-color:#b3261e;background:#b3261e22}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}\
th,td{border:1px solid #8886;padding:.25rem .5rem;text-align:left;vertical-align:top}\
td.number{text-align:right;font-variant-numeric:tabular-nums}\
code,pre{font:13px/1.5 ui-monospace,monospace}td code{overflow-wrap:anywhere}\
pre{padding:.7rem 1rem;overflow-x:auto;background:#8882;border-radius:.2rem}";

impl Page {
    /// The page in Markdown (GitHub's, for its tables).
    pub(super) fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n**{}**\n", plain(&self.title), plain(&self.headline));
        for section in &self.sections {
            let _ = write!(out, "\n## {}\n", section.heading);
            for block in &section.blocks {
                out.push('\n');
                block.markdown(&mut out);
            }
        }
        out
    }

    /// The page as one file of HTML.
    pub(super) fn html(&self) -> String {
        let (title, tone) = (text(&self.title), self.tone);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <h1>{title}</h1>\n<p class=\"headline {tone}\">{}</p>\n",
            text(&self.headline)
        );
        for section in &self.sections {
            let _ = writeln!(out, "<h2>{}</h2>", section.heading);
            section.blocks.iter().for_each(|block| block.html(&mut out));
        }
        out.push_str("</html>\n");
        out
    }
}

impl Block {
    fn markdown(&self, out: &mut String) {
        match self {
            Self::Text(text) => *out += &format!("{}\n", plain(text)),
            Self::Lines(lines) => {
                lines.iter().for_each(|line| *out += &format!("* {}\n", plain(line)));
            }
            Self::Table { head, rows } => {
                let rule = vec!["---"; head.len()].join("|");
                *out += &format!("| {} |\n|{rule}|\n", head.join(" | "));
                for row in rows {
                    let cells: Vec<_> = row.iter().map(Cell::markdown).collect();
                    *out += &format!("| {} |\n", cells.join(" | "));
                }
            }
            Self::Code(lines) => {
                let lines = lines.iter().map(|line| visible(line)).collect::<Vec<_>>().join("\n");
                let fence = fence(&lines, 3);
                *out += &format!("{fence}\n{lines}\n{fence}\n");
            }
        }
    }

    fn html(&self, out: &mut String) {
        match self {
            Self::Text(said) => *out += &format!("<p>{}\n", text(said)),
            Self::Lines(lines) => {
                out.push_str("<ul>\n");
                lines.iter().for_each(|line| *out += &format!("<li>{}\n", text(line)));
                out.push_str("</ul>\n");
            }
            Self::Table { head, rows } => {
                out.push_str("<div class=\"wide\"><table>\n<tr>");
                head.iter().for_each(|name| *out += &format!("<th>{}", text(name)));
                for row in rows {
                    out.push_str("\n<tr>");
                    row.iter().for_each(|cell| cell.html(out));
                }
                out.push_str("\n</table></div>\n");
            }
            Self::Code(lines) => {
                let lines: Vec<_> = lines.iter().map(|line| escaped(&visible(line))).collect();
                *out += &format!("<pre>{}</pre>\n", lines.join("\n"));
            }
        }
    }
}

impl Cell {
    fn markdown(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) => plain(text),
            Self::Code(text) if text.is_empty() => String::new(),
            // A table takes the two for an escaped backslash and the cell's end, also within code.
            Self::Code(text) if text.contains("\\|") => plain(text),
            Self::Code(text) => {
                let text = cut(&visible(text));
                let fence = fence(&text, 1);
                let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
                // A table ends its cells before it looks for code.
                format!("{fence}{space}{}{space}{fence}", text.replace('|', "\\|"))
            }
        }
    }

    fn html(&self, out: &mut String) {
        *out += &match self {
            Self::Text(said) => format!("<td>{}", text(said)),
            Self::Number(said) => format!("<td class=\"number\">{}", text(said)),
            Self::Code(said) if said.is_empty() => "<td>".to_owned(),
            Self::Code(said) => format!("<td><code>{}</code>", text(said)),
        };
    }
}

/// Text with what cannot be seen, or changes how others are seen, spelt out.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Zero width, direction, separators of lines and paragraphs, annotations, tags.
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => out.extend(c.escape_unicode()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(LONGEST).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// More backticks than stand together in a text, and at least so many.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(least.max(longest + 1))
}

/// Text as HTML's contents and attributes take it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A text in HTML.
fn text(text: &str) -> String {
    escaped(&cut(&visible(text)))
}

/// A text in Markdown.
fn plain(text: &str) -> String {
    let text = cut(&visible(text));
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' | '>' | '~' => out.extend(['\\', c]),
            // At the start they would make a list or a heading.
            '-' | '+' | '=' if i == 0 => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</code><script>alert('x')</script>|a\\|`b``\n# c\u{1b}[2J\u{202e}![i](http://e.example)&amp;";

    fn page() -> Page {
        let code = HOSTILE.replace("\\|", "|");
        let cells = vec![Cell::Code(code), Cell::Code(HOSTILE.into()), Cell::Text(HOSTILE.into())];
        Page {
            title: HOSTILE.into(),
            tone: "hold",
            headline: HOSTILE.into(),
            sections: vec![Section {
                heading: "Why",
                blocks: vec![
                    Block::Lines(vec![HOSTILE.into(), "- x".into()]),
                    Block::Table { head: vec!["value", "value", "text"], rows: vec![cells] },
                    Block::Code(vec![HOSTILE.into()]),
                ],
            }],
        }
    }

    #[test]
    fn nothing_that_comes_in_is_html() {
        let html = page().html();
        // All the tags there are, by name: those of the page.
        let tags: std::collections::BTreeSet<&str> =
            html.split('<').skip(1).map(|t| t.split([' ', '>', '\n']).next().unwrap()).collect();
        let own = [
            "!doctype", "/code", "/div", "/h1", "/h2", "/html", "/p", "/pre", "/style", "/table",
            "/title", "/ul", "code", "div", "h1", "h2", "html", "li", "meta", "p", "pre", "style",
            "table", "td", "th", "title", "tr", "ul",
        ];
        assert_eq!(tags, own.into());
        assert_eq!(html.matches("<code>").count(), 2);
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;x&#39;)").count(), 8);
        assert!(
            html.contains("&amp;amp;") && html.contains("\\u{202e}") && html.contains("\\u{1b}[2J")
        );
        assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}'));
    }

    #[test]
    fn nothing_that_comes_in_is_markdown() {
        let markdown = page().markdown();
        assert!(!markdown.contains('\u{1b}') && !markdown.contains('\u{202e}'));
        let lines: Vec<&str> = markdown.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with('#')).count(), 2);
        let row = lines.iter().find(|line| line.starts_with("| `")).unwrap();
        // Four bars that are not escaped: three cells.
        let bars = row.replace("\\\\", "").replace("\\|", "").matches('|').count();
        assert_eq!(bars, 4, "{row}");
        assert!(row.starts_with("| ```</code>"), "longer than any fence within: {row}");
        let item = lines.iter().find(|line| line.starts_with("* &lt;")).unwrap();
        assert!(item.contains("&lt;script\\>") && item.contains("!\\[i\\]"), "{item}");
        assert!(lines.contains(&"* \\- x"));
        let [.., open, code, close] = lines.as_slice() else { panic!("{markdown}") };
        assert_eq!((open, close), (&"```", &"```"));
        assert!(code.starts_with("</code><script>") && code.contains("\\n# c"), "{code}");
        let fenced = Block::Code(vec!["````".into()]);
        let mut out = String::new();
        fenced.markdown(&mut out);
        assert_eq!(out, "`````\n````\n`````\n");
    }

    #[test]
    fn long_texts_are_cut() {
        let long = Cell::Text("é".repeat(9999));
        assert_eq!(long.markdown().chars().count(), LONGEST + 1);
        assert_eq!(Cell::Code("`".repeat(3)).markdown(), "```` ``` ````");
    }
}
