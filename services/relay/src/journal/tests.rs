use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use systir_journal::{
    DecidedAt, Journal as _, JournalEntry, JournalEvent, JournalGap, JournalLimits, JournalLine,
    JournalOutcome, MissingReason,
};
use tokio_util::sync::CancellationToken;

use super::files::NotWritten;
use super::write::BatchWriter;
use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// 2026-11-29T00:00:00Z.
const START_MS: u64 = 20_786 * DAY_MS;
const LIMITS: JournalLimits = JournalLimits { keep_days: 2, file_bytes: 4096, day_bytes: 1 << 20 };

fn entry() -> JournalEntry {
    JournalEntry::new(DecidedAt::Seat, JournalOutcome::Refused, "full")
}

fn line(time_ms: u64) -> JournalLine {
    JournalLine { time_ms, node: "cph-1".to_owned(), event: JournalEvent::Entry(entry().into()) }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// All lines of all files in order.
fn lines(folder: &Path) -> Vec<JournalLine> {
    let texts = names(folder).into_iter().map(|name| fs::read_to_string(folder.join(name)).unwrap());
    texts
        .flat_map(|text| text.lines().map(|line| JournalLine::parse(line).unwrap()).collect::<Vec<_>>())
        .collect()
}

fn gaps(folder: &Path) -> Vec<JournalGap> {
    let gap = |line: JournalLine| match line.event {
        JournalEvent::Missing(gap) => Some(gap),
        JournalEvent::Entry(_) => None,
    };
    lines(folder).into_iter().filter_map(gap).collect()
}

fn counter(metrics: &JournalMetrics, name: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    value.trim().parse().unwrap()
}

#[test]
fn days_and_full_files_begin_new_files_and_old_ones_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let mut files = JournalFiles::new(&journal, LIMITS);
    let text = format!("{}\n", line(START_MS).to_text());
    let many = text.repeat(20);
    for day in 0..5 {
        for _ in 0..3 {
            files.write(&many, START_MS + day * DAY_MS).unwrap();
        }
    }
    let expected: Vec<String> = ["2026-12-01", "2026-12-02", "2026-12-03"]
        .iter()
        .flat_map(|day| (0..2).map(move |number| format!("decisions-{day}.{number}.jsonl")))
        .collect();
    let found = names(&journal);
    assert!(many.len() * 2 > 4096 && many.len() < 4096, "{}", many.len());
    assert_eq!(found.len(), 9, "{found:?}");
    assert!(expected.iter().all(|name| found.contains(name)), "{found:?}");
    for name in &found {
        let mode = fs::metadata(journal.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{name}: {mode:o}");
    }
    assert_eq!(fs::metadata(&journal).unwrap().permissions().mode() & 0o027, 0);
    // Without decisions a day passes too.
    files.write("", START_MS + 8 * DAY_MS).unwrap();
    assert_eq!(names(&journal), Vec::<String>::new());
}

#[test]
fn a_line_that_a_crash_cut_short_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}\n", line(START_MS).to_text());
    JournalFiles::new(folder.path(), LIMITS).write(&text, START_MS).unwrap();
    let file = folder.path().join("decisions-2026-11-29.0.jsonl");
    let cut = format!("{text}{}", &text[..text.len() / 2]);
    fs::write(&file, &cut).unwrap();
    JournalFiles::new(folder.path(), LIMITS).write(&text, START_MS).unwrap();
    let after = fs::read_to_string(&file).unwrap();
    let readable: Vec<bool> = after.lines().map(|line| JournalLine::parse(line).is_ok()).collect();
    assert_eq!(readable, [true, false, true]);
    assert!(after.ends_with('\n'));
}

#[test]
fn a_full_disk_is_counted_and_the_journal_tells_of_it_when_it_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions-2026-11-29.0.jsonl");
    symlink("/dev/full", &file).unwrap();
    let metrics = Arc::new(JournalMetrics::default());
    let (_queue, receiver) = JournalQueue::new("cph-1", 1, metrics.clone());
    let writer = BatchWriter::of(&receiver);
    let files = JournalFiles::new(folder.path(), LIMITS);
    let files = writer.write(files, &[line(START_MS + 1), line(START_MS + 2)], START_MS + 2);
    let files = writer.write(files, &[line(START_MS + 3)], START_MS + 3);
    assert_eq!(counter(&metrics, "journal_missing_total{reason=\"disk\"}"), 3);
    fs::remove_file(&file).unwrap();
    let files = writer.write(files, &[], START_MS + 4);
    let _files = writer.write(files, &[line(START_MS + 5)], START_MS + 5);
    let found = lines(folder.path());
    assert_eq!(found.len(), 2, "{found:?}");
    let [gap] = gaps(folder.path()).try_into().unwrap();
    assert_eq!((gap.from_ms, gap.to_ms), (START_MS + 2, START_MS + 3));
    assert_eq!(gap.count, [(MissingReason::Disk, 3)].into());
    assert_eq!(counter(&metrics, "journal_decisions_total"), 1);
}

#[test]
fn a_day_has_a_limit_so_that_nobody_fills_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}\n", line(START_MS).to_text());
    let limits = JournalLimits { day_bytes: text.len() as u64, ..LIMITS };
    let mut files = JournalFiles::new(folder.path(), limits);
    files.write(&text, START_MS).unwrap();
    assert!(matches!(files.write(&text, START_MS), Err(NotWritten::DayLimit)));
    files.write(&text, START_MS + DAY_MS).unwrap();
    // After a restart too.
    let mut files = JournalFiles::new(folder.path(), limits);
    assert!(matches!(files.write(&text, START_MS + DAY_MS), Err(NotWritten::DayLimit)));
}

#[test]
fn what_other_nodes_ask_for_leaves_half_of_a_day_to_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(JournalMetrics::default());
    let (_queue, receiver) = JournalQueue::new("cph-1", 1, metrics.clone());
    let writer = BatchWriter::of(&receiver);
    let files = JournalFiles::new(folder.path(), JournalLimits { day_bytes: 8192, ..LIMITS });
    let asked = JournalEntry { asked_by: Some("hostile-1".to_owned()), ..entry() };
    let asked = JournalLine { event: JournalEvent::Entry(asked.into()), ..line(START_MS) };
    let files = writer.write(files, &vec![asked; 500], START_MS);
    let files = writer.write(files, &[line(START_MS + 1)], START_MS + 1);
    let found = lines(folder.path());
    let own = found.iter().filter(|line| !line.is_caused_by_others()).count();
    assert_eq!(own, 2, "the gap and the node's own decision: {}", found.len());
    let [gap] = gaps(folder.path()).try_into().unwrap();
    assert_eq!(gap.total() as usize + found.len() - own, 500);
    drop(files);
}

#[tokio::test]
async fn a_full_queue_never_waits_and_becomes_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(JournalMetrics::default());
    let (queue, receiver) = JournalQueue::new("cph-1", 2, metrics.clone());
    for _ in 0..5 {
        queue.record(entry());
    }
    assert_eq!(counter(&metrics, "journal_missing_total{reason=\"queue\"}"), 3);
    let stop = CancellationToken::new();
    stop.cancel();
    run(receiver, JournalFiles::new(folder.path(), LIMITS), stop).await;
    let [gap] = gaps(folder.path()).try_into().unwrap();
    assert_eq!(gap.count, [(MissingReason::Queue, 3)].into());
    assert_eq!(lines(folder.path()).len(), 3, "the gap and the two that were taken");
    // After the end nothing is counted as missing.
    queue.record(entry());
    assert_eq!(counter(&metrics, "journal_missing_total{reason=\"queue\"}"), 3);
}
