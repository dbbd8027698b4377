//! Every kind with every verb of kubectl: what works is the table in docs/kubectl.md, and
//! must be what the table says. `HOLDFAST_WRITE_TABLE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use holdfast_volume_controller::apiserver::kinds::{self, Kind, Scope};
use holdfast_volume_controller::controllers;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{sleep, timeout};

use super::harness::PATIENCE;
use super::kubectl::{Kubectl, with_each};

/// One object of every kind.
const OBJECTS: &str = include_str!("kinds.yaml");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubectl.md");
const BEGIN: &str = "<!-- made by volume-controller/tests/apiserver/kubectl_kinds.rs -->\n";
const END: &str = "<!-- end -->";
/// How many kinds are watched at once.
const WATCHERS: usize = 4;
/// The pause between the changes that a watch waits for.
const TICK: Duration = Duration::from_millis(100);

/// The columns of the table, in its order.
const COLUMNS: [&str; 18] = [
    "get",
    "list",
    "get -w",
    "describe",
    "explain",
    "auth can-i",
    "create",
    "apply",
    "apply --server-side",
    "diff",
    "edit",
    "patch json, merge",
    "patch strategic",
    "label, annotate",
    "replace",
    "replace --force",
    "wait",
    "delete",
];

struct Sample {
    kind: &'static Kind,
    name: String,
}

impl Sample {
    fn is(&self, object: &Value) -> bool {
        object["kind"] == self.kind.kind
            && object["apiVersion"] == self.kind.api_version().as_str()
            && object["metadata"]["name"] == self.name.as_str()
    }

    /// `storageclass.storage.k8s.io`, as kubectl names it in what it prints.
    fn singular(&self) -> String {
        [self.kind.singular, self.kind.group].join(".").trim_end_matches('.').to_owned()
    }

    fn reference(&self) -> String {
        format!("{}/{}", self.singular(), self.name)
    }

    /// Its URL's path.
    fn path(&self) -> String {
        let root = if self.kind.group.is_empty() { "api" } else { "apis" };
        let namespace = if self.kind.scope == Scope::Namespaced { "namespaces/default/" } else { "" };
        format!("/{root}/{}/{namespace}{}/{}", self.kind.api_version(), self.kind.plural, self.name)
    }

    /// With the version, as kubectl takes it.
    fn resource(&self) -> String {
        match self.kind.group {
            "" => self.kind.plural.to_owned(),
            group => format!("{}.{}.{group}", self.kind.plural, self.kind.version),
        }
    }
}

/// The kinds, each with its object, in the table's order.
fn samples() -> Vec<Sample> {
    let objects: Vec<Value> =
        OBJECTS.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
    let of = |kind: &'static Kind| {
        let named = |object: &Value| {
            let sample = Sample { kind, name: object["metadata"]["name"].as_str()?.to_owned() };
            sample.is(object).then_some(sample)
        };
        objects.iter().find_map(named).unwrap_or_else(|| panic!("no object of {}", kind.resource()))
    };
    kinds::ALL.iter().copied().map(of).collect()
}

/// What worked with one kubectl.
struct Table<'a> {
    kubectl: &'a Kubectl<'a>,
    samples: &'a [Sample],
    /// By column and place of the kind; missing where nothing was tried.
    cells: BTreeMap<(&'static str, usize), bool>,
    /// What was printed where something did not work.
    trouble: String,
}

impl Table<'_> {
    fn note(&mut self, column: &'static str, place: usize, worked: bool) {
        assert!(COLUMNS.contains(&column), "{column}");
        let cell = self.cells.entry((column, place)).or_insert(true);
        *cell = *cell && worked;
    }

    /// Runs one command on all objects; for each it must have printed what `shows` looks for.
    async fn all(
        &mut self,
        column: &'static str,
        arguments: &[&str],
        input: &str,
        shows: impl Fn(&Sample, &str) -> bool,
    ) {
        let output = self.kubectl.output(arguments, input).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut complete = true;
        for (place, sample) in self.samples.iter().enumerate() {
            let shown = shows(sample, &text);
            complete &= shown;
            self.note(column, place, shown);
        }
        if !complete {
            let complaints = String::from_utf8_lossy(&output.stderr);
            writeln!(self.trouble, "{arguments:?}:\n{text}{complaints}").unwrap();
        }
    }

    /// As [`Table::all`] for a command that prints one line for each object: its reference and a word.
    async fn says(&mut self, column: &'static str, arguments: &[&str], word: &str) {
        let line = |sample: &Sample| format!("{} {word}", sample.reference());
        self.all(column, arguments, OBJECTS, |sample, text| text.lines().any(|l| l == line(sample))).await;
    }

    /// Runs one command for each kind.
    async fn each(
        &mut self,
        column: &'static str,
        arguments: impl Fn(&Sample) -> Vec<String>,
        shows: impl Fn(&Sample, &str) -> bool,
    ) {
        for (place, sample) in self.samples.iter().enumerate() {
            let arguments = arguments(sample);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = self.kubectl.output(&arguments, "").await;
            let text = String::from_utf8_lossy(&output.stdout);
            let worked = output.status.success() && shows(sample, &text);
            if !worked {
                let complaints = String::from_utf8_lossy(&output.stderr);
                writeln!(self.trouble, "{arguments:?}:\n{text}{complaints}").unwrap();
            }
            self.note(column, place, worked);
        }
    }

    async fn read(&mut self) {
        let get = ["get", "-f", "-", "-o"];
        let with = |format: &'static str| [get[0], get[1], get[2], get[3], format];
        let is_listed = |sample: &Sample, text: &str| {
            let reference = sample.reference();
            text.lines().any(|line| line.split_whitespace().any(|word| word == reference))
        };
        // Events are shown by what they say.
        let is_row = |sample: &Sample, text: &str| {
            is_listed(sample, text) || sample.kind.kind == "Event" && text.contains("Sampled")
        };
        self.all("get", &["get", "-f", "-"], OBJECTS, is_row).await;
        self.all("get", &with("wide"), OBJECTS, is_listed).await;
        self.all("get", &with("name"), OBJECTS, is_listed).await;
        let is_item = |sample: &Sample, list: &Value| {
            list["items"].as_array().is_some_and(|items| items.iter().any(|item| sample.is(item)))
        };
        self.all("get", &with("json"), OBJECTS, |sample, text| {
            serde_json::from_str(text).is_ok_and(|list| is_item(sample, &list))
        })
        .await;
        self.all("get", &with("yaml"), OBJECTS, |sample, text| {
            serde_saphyr::from_str(text).is_ok_and(|list| is_item(sample, &list))
        })
        .await;
        let has_words = |sample: &Sample, text: &str| {
            let words = [&sample.kind.api_version(), sample.kind.kind, sample.name.as_str()];
            text.lines().any(|line| line.split_whitespace().eq(words))
        };
        for format in [
            r#"jsonpath={range .items[*]}{.apiVersion} {.kind} {.metadata.name}{"\n"}{end}"#,
            "custom-columns=VERSION:.apiVersion,KIND:.kind,NAME:.metadata.name",
            r#"go-template={{range .items}}{{.apiVersion}} {{.kind}} {{.metadata.name}}{{"\n"}}{{end}}"#,
        ] {
            self.all("get", &with(format), OBJECTS, has_words).await;
        }

        let resources: Vec<String> = self.samples.iter().map(Sample::resource).collect();
        let resources = resources.join(",");
        let list = ["get", &resources, "-o", "name"];
        for (selection, others) in [
            (["-l", "state in (labelled)"], ["-l", "state,state!=labelled"]),
            (["--field-selector", "metadata.name!=other"], ["--field-selector", "metadata.name=other"]),
            (["-A", "--chunk-size=1"], ["-n", "kube-public"]),
        ] {
            self.all("list", &[&list[..], &selection].concat(), "", is_listed).await;
            let missing = |sample: &Sample, text: &str| {
                sample.kind.scope == Scope::Cluster && others[0] == "-n" || !is_listed(sample, text)
            };
            self.all("list", &[&list[..], &others].concat(), "", missing).await;
        }
        self.each(
            "describe",
            |sample| vec!["describe".into(), sample.resource(), sample.name.clone()],
            |sample, text| {
                let name = |line: &str| line.split_whitespace().eq(["Name:", &sample.name]);
                text.lines().any(name)
            },
        )
        .await;
        self.each(
            "explain",
            |sample| {
                let version = format!("--api-version={}", sample.kind.api_version());
                vec!["explain".into(), "--recursive".into(), sample.kind.plural.into(), version]
            },
            |sample, text| {
                let kind = |line: &str| line.split_whitespace().eq(["KIND:", sample.kind.kind]);
                text.lines().any(kind) && text.contains("creationTimestamp")
            },
        )
        .await;
        self.each(
            "auth can-i",
            |sample| vec!["auth".into(), "can-i".into(), "delete".into(), sample.resource()],
            |_, text| text == "yes\n",
        )
        .await;
    }

    /// Every kind is watched, with its objects first and without them, and changes until both have told.
    async fn watch(&mut self) {
        let kubectl = self.kubectl;
        let watched = futures::stream::iter(self.samples).map(async |sample| {
            let (resource, object) = (sample.resource(), sample.reference());
            let told = async |argument: &str, times: usize| {
                let arguments = ["get", &resource, "-o", "name", argument];
                let mut child = kubectl.command(&arguments).spawn().map_err(|e| e.to_string())?;
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                for _ in 0..times {
                    while lines.next_line().await.ok().flatten().ok_or("the watch ended")? != object {}
                }
                child.kill().await.map_err(|e| e.to_string())
            };
            let change = async {
                for n in 0.. {
                    let tick = json!({"metadata": {"annotations": {"tick": n.to_string()}}});
                    kubectl.cluster.merge(&sample.path(), &tick).await.expect(200);
                    sleep(TICK).await;
                }
            };
            let both = async { tokio::try_join!(told("-w", 2), told("--watch-only", 1)) };
            let both = async {
                tokio::select! { told = both => told.map(drop), () = change => Ok(()) }
            };
            timeout(PATIENCE, both).await.unwrap_or_else(|late| Err(late.to_string()))
        });
        let watched: Vec<Result<(), String>> = watched.buffered(WATCHERS).collect().await;
        for (place, told) in watched.into_iter().enumerate() {
            if let Err(why) = &told {
                writeln!(self.trouble, "watching {}: {why}", self.samples[place].resource()).unwrap();
            }
            self.note("get -w", place, told.is_ok());
        }
    }

    async fn change(&mut self) {
        let file = ["-f", "-"];
        let on = |arguments: &[&'static str]| [arguments, &file].concat();
        self.says("label, annotate", &on(&["label", "state=labelled"]), "labeled").await;
        self.says("label, annotate", &on(&["label", "extra=1"]), "labeled").await;
        self.says("label, annotate", &on(&["label", "extra=2", "--overwrite"]), "labeled").await;
        self.says("label, annotate", &on(&["annotate", "note=1"]), "annotated").await;
        for (column, kind) in
            [("patch json, merge", "json"), ("patch json, merge", "merge"), ("patch strategic", "strategic")]
        {
            let patch = match kind {
                "json" => r#"[{"op": "add", "path": "/metadata/annotations/json", "value": "1"}]"#.to_owned(),
                _ => format!(r#"{{"metadata": {{"annotations": {{"{kind}": "1"}}}}}}"#),
            };
            self.says(column, &["patch", "-f", "-", "--type", kind, "-p", &patch], "patched").await;
        }
        self.says("apply", &on(&["apply"]), "configured").await;
        self.says("apply", &on(&["apply"]), "unchanged").await;
        let labelled = |value: &str| {
            let labels = format!(", labels: {{applied: {value}}}}}");
            OBJECTS
                .lines()
                .map(|line| match line.strip_prefix("metadata: {") {
                    Some(rest) => format!("metadata: {{{}{labels}\n", rest.trim_end_matches('}')),
                    None => format!("{line}\n"),
                })
                .collect::<String>()
        };
        let differs = |value: &'static str| {
            move |sample: &Sample, text: &str| {
                let name = format!("{}.{}.", sample.kind.api_version().replace('/', "."), sample.kind.kind);
                let mine = |part: &&str| {
                    part.lines()
                        .next()
                        .is_some_and(|line| line.contains(&name) && line.contains(&sample.name))
                };
                text.split("diff -u -N")
                    .filter(mine)
                    .any(|part| part.contains(&format!("+    applied: {value}")))
            }
        };
        let client = labelled("client");
        self.all("diff", &on(&["diff"]), &client, differs("client")).await;
        self.all("apply", &on(&["apply"]), &client, ends_with("configured")).await;
        let server = labelled("server");
        let forced = on(&["diff", "--server-side", "--force-conflicts"]);
        self.all("diff", &forced, &server, differs("server")).await;
        let forced = on(&["apply", "--server-side", "--force-conflicts"]);
        let column = "apply --server-side";
        self.all(column, &forced, &server, ends_with("serverside-applied")).await;
        self.all(column, &on(&["apply", "--server-side"]), &server, ends_with("serverside-applied")).await;
        self.says("label, annotate", &on(&["label", "state=relabelled", "--overwrite"]), "labeled").await;
        self.all("edit", &on(&["edit"]), OBJECTS, ends_with("edited")).await;
        self.says("replace", &on(&["replace"]), "replaced").await;
        // What was replaced has none: no `--overwrite`.
        self.says("label, annotate", &on(&["label", "state=labelled"]), "labeled").await;
        // Before, it takes a path with a value only.
        if self.kubectl.minor >= 31 {
            let condition = "--for=jsonpath={.metadata.creationTimestamp}";
            self.says("wait", &["wait", "-f", "-", condition], "condition met").await;
        }
    }

    async fn delete(&mut self) {
        let gone = |sample: &Sample, text: &str| {
            let start = format!("{} \"{}\" deleted", sample.singular(), sample.name);
            text.lines().any(|line| line.starts_with(&start))
        };
        let force = ["replace", "--force", "-f", "-"];
        self.says("replace --force", &force, "replaced").await;
        for cascade in ["--cascade=background", "--cascade=orphan", "--cascade=foreground"] {
            self.all("delete", &["delete", "-f", "-", cascade], OBJECTS, gone).await;
            let list = ["get", "-f", "-", "--ignore-not-found", "-o", "name"];
            let is_absent =
                |sample: &Sample, text: &str| !text.lines().any(|line| line == sample.reference());
            self.all("delete", &list, OBJECTS, is_absent).await;
            self.says("create", &["create", "-f", "-", "--dry-run=server"], "created (server dry run)").await;
            self.says("create", &["create", "-f", "-"], "created").await;
        }
    }

    fn print(&self, before: &str) -> String {
        let mut text = format!("| kind | {} |\n|---{}|\n", COLUMNS.join(" | "), "|---".repeat(COLUMNS.len()));
        let old: Vec<Vec<&str>> =
            before.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        for (place, sample) in self.samples.iter().enumerate() {
            let title = match sample.kind.group {
                "" => sample.kind.kind.to_owned(),
                _ => format!("{} ({})", sample.kind.kind, sample.kind.api_version()),
            };
            let old = old.iter().find(|cells| cells.get(1) == Some(&title.as_str()));
            write!(text, "| {title} |").unwrap();
            for (at, column) in COLUMNS.iter().enumerate() {
                let cell = match self.cells.get(&(*column, place)) {
                    Some(true) => "yes",
                    Some(false) => "no",
                    // An old kubectl that cannot ask says nothing about it.
                    None => old.and_then(|cells| cells.get(at + 2)).copied().unwrap_or("?"),
                };
                write!(text, " {cell} |").unwrap();
            }
            text.push('\n');
        }
        text
    }
}

fn ends_with(word: &'static str) -> impl Fn(&Sample, &str) -> bool {
    move |sample, text| text.lines().any(|line| line == format!("{} {word}", sample.reference()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_with_every_verb() {
    let samples = samples();
    with_each(async |kubectl| {
        // What protects, counts and empties must run, or nothing goes away.
        let stop = kubectl.cluster.stop.clone();
        let running =
            tokio::spawn(controllers::run(controllers::Config::new(kubectl.cluster.store.clone()), stop));
        let mut table = Table { kubectl, samples: &samples, cells: BTreeMap::new(), trouble: String::new() };
        table.says("create", &["create", "-f", "-"], "created").await;
        table.change().await;
        table.read().await;
        table.watch().await;
        table.delete().await;
        let document = std::fs::read_to_string(DOCUMENT).unwrap();
        let (head, rest) = document.split_once(BEGIN).unwrap();
        let (before, tail) = rest.split_once(END).unwrap();
        let after = table.print(before);
        if std::env::var_os("HOLDFAST_WRITE_TABLE").is_some() {
            std::fs::write(Path::new(DOCUMENT), format!("{head}{BEGIN}{after}{END}{tail}")).unwrap();
            println!("{}", table.trouble);
        } else {
            assert!(before == after, "docs/kubectl.md says otherwise:\n{after}\n{}", table.trouble);
        }
        kubectl.cluster.stop.cancel();
        running.await.unwrap().unwrap();
    })
    .await;
}
