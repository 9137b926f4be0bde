//! HTML text.

/// Text, safe between tags and in attributes.
pub(super) fn escaped(text: &str) -> String {
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

/// The look of the page. It loads nothing.
pub(super) const STYLE: &str = "
@page { size: A4; margin: 16mm 18mm; }
* { box-sizing: border-box; }
body { font: 11pt/1.45 Georgia, 'Times New Roman', serif; color: #1a1a1a; background: #fff; max-width: 174mm;
  margin: 10mm auto; padding: 0 4mm; }
h1 { font-size: 20pt; line-height: 1.2; margin: 0 0 2mm; }
h2 { font-size: 13pt; margin: 8mm 0 2mm; border-bottom: 0.4mm solid #1a1a1a; padding-bottom: 1mm; break-after: avoid; }
p { margin: 0 0 2.5mm; }
ul { margin: 0 0 3mm; padding-left: 5mm; }
li { margin-bottom: 1mm; }
table { border-collapse: collapse; width: 100%; margin: 0 0 4mm; font-size: 9.5pt; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: 1.4mm 2mm; border-bottom: 0.2mm solid #bbb; }
th { font-weight: bold; background: #f1f1ec; }
tr { break-inside: avoid; }
.mark { font: bold 8.5pt/1 system-ui, sans-serif; white-space: nowrap; padding: 0.8mm 1.6mm; border: 0.3mm solid; }
.proved { color: #14532d; }
.refuted { color: #991b1b; }
.small { font-size: 9pt; color: #444; }
code { font-size: 8.5pt; overflow-wrap: anywhere; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
";
