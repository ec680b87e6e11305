//! Whether a drill may be done at all, with whom and where; and what the console tells, in words.

use crate::cli::drill::DrillArgs;
use crate::cli::drill::door::Named;
use crate::clock;
use crate::config::settings::{FALLBACK, Settings};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The cluster.
    pub cluster: String,
    /// The next primary, where that is said.
    pub to: Option<String>,
    /// Where it writes.
    pub database: String,
    /// Who writes.
    pub user: String,
    /// Who uses the console.
    pub admin: String,
    /// The table that is made, and dropped.
    pub table: String,
}

impl Plan {
    /// What the console is told.
    pub fn command(&self) -> String {
        let quoted = |text: &str| text.replace('"', "\"\"");
        let mut command = format!("SWITCHOVER \"{}\"", quoted(&self.cluster));
        if let Some(to) = &self.to {
            command += &format!(" TO \"{}\"", quoted(to));
        }
        command
    }

    /// What is about to happen.
    pub fn announcement(&self, pooler: &str, primary: &str) -> String {
        let to = self.to.as_deref().unwrap_or("whom Patroni chooses");
        format!(
            "This will switch over the cluster {}, from {primary} to {to}.\n\
             All its clients wait meanwhile; transactions that last longer than the switchover lets them are lost.\n\
             Four small writers, {} at {pooler}, write into the table {} of the database {},\n\
             which is made for that and dropped at the end.\n\n",
            self.cluster, self.user, self.table, self.database
        )
    }
}

/// What `args` ask for, as far as the configuration allows it.
///
/// # Errors
/// What is missing, and what to do about it.
pub fn plan(args: &DrillArgs, settings: &Settings) -> Result<Plan, String> {
    let names = |names: &mut dyn Iterator<Item = &String>| {
        let all: Vec<&str> = names.map(String::as_str).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        }
    };
    let Some(cluster) = settings.clusters.get(&args.cluster) else {
        let known = names(&mut settings.clusters.keys());
        return Err(format!(
            "there is no cluster \"{}\" in {} (clusters: {known})",
            args.cluster,
            args.file.display()
        ));
    };
    if cluster.patroni.is_empty() && cluster.etcd.is_none() {
        return Err(format!(
            "nobody keeps the cluster \"{}\", so nobody can be asked for a switchover: name Patroni in clusters.{}.patroni, or say \
             SWITCHOVER in the console and promote by hand",
            args.cluster, args.cluster
        ));
    }
    let is_of = |name: &str| {
        settings
            .cluster_of(name)
            .is_some_and(|(of, _)| of == args.cluster)
    };
    let mut databases = settings.databases.keys().filter(|name| *name != FALLBACK);
    let database = match &args.database {
        Some(name) if is_of(name) => Some(name),
        Some(name) => {
            return Err(format!(
                "the database \"{name}\" is not in the cluster \"{}\"",
                args.cluster
            ));
        }
        None => databases.find(|name| is_of(name)),
    };
    let database = database.ok_or("say in which --database of the cluster it shall write")?;
    let user = match (&args.user, settings.users.len()) {
        (Some(user), _) => Some(user),
        (None, 1) => settings.users.keys().next(),
        (None, _) => None,
    };
    let user = user.ok_or_else(|| {
        let known = names(&mut settings.users.keys());
        format!("say which --user shall write; it must be allowed to make a table (users: {known})")
    })?;
    let admin = args.admin.as_ref().or(settings.pooler.admin_users.first());
    let admin = admin.ok_or("nobody may use the console: set pooler.admin_users")?;
    let number = u32::from_ne_bytes(clock::entropy());
    Ok(Plan {
        cluster: args.cluster.clone(),
        to: args.to.clone(),
        database: database.clone(),
        user: user.clone(),
        admin: admin.clone(),
        table: format!("pooler_drill_{number:08x}"),
    })
}

fn cell<'a>(row: &'a Named, name: &str) -> &'a str {
    row.get(name).map(String::as_str).unwrap_or_default()
}

/// Checks that the cluster is fit for a switchover, by `SHOW CLUSTERS` and `SHOW NODES`; returns its primary.
///
/// # Errors
/// Why it is not.
pub fn check_fit(plan: &Plan, clusters: &[Named], nodes: &[Named]) -> Result<String, String> {
    let is_ours = |row: &&Named| cell(row, "cluster") == plan.cluster;
    let Some(cluster) = clusters.iter().find(is_ours) else {
        return Err(format!(
            "the pooler that runs knows no cluster \"{}\": it was started with another configuration",
            plan.cluster
        ));
    };
    if cell(cluster, "phase") != "stable" {
        return Err(format!(
            "the cluster is not well, it is {} ({}): see SHOW CLUSTERS and SHOW NODES",
            cell(cluster, "phase"),
            cell(cluster, "why")
        ));
    }
    let mut nodes = nodes.iter().filter(is_ours);
    if !nodes.any(|node| cell(node, "role") == "replica") {
        return Err("the cluster has no replica that could take over: see SHOW NODES".to_owned());
    }
    Ok(cell(cluster, "primary").to_owned())
}

/// The last switchover or failover of the cluster, by `SHOW FAILOVERS`.
pub fn seen_by_pooler(plan: &Plan, outages: &[Named]) -> String {
    let is_it = |row: &&Named| {
        let is_ours = cell(row, "cluster") == plan.cluster;
        is_ours && ["switchover", "failover"].contains(&cell(row, "kind"))
    };
    let Some(row) = outages.iter().rev().find(is_it) else {
        return "  pooler     saw no change of the primary (SHOW FAILOVERS)\n".to_owned();
    };
    let moments = [
        "draining",
        "suspect",
        "no_writer",
        "confirmed",
        "first_write",
    ];
    let moments: Vec<String> = moments
        .iter()
        .map(|what| (what, cell(row, &format!("{what}_ms"))))
        .filter(|(_, after)| !after.is_empty())
        .map(|(what, after)| format!("{} {after}", what.replace('_', " ")))
        .collect();
    format!(
        "  pooler     {}, {} -> {}\n             ms after the first sign: {}\n             all clients: held {}, released {}, failed {}\n",
        cell(row, "kind"),
        cell(row, "primary_before"),
        cell(row, "primary_after"),
        moments.join(", "),
        cell(row, "held"),
        cell(row, "released"),
        cell(row, "failed"),
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Plan, check_fit, plan, seen_by_pooler};
    use crate::cli::drill::DrillArgs;
    use crate::cli::drill::door::Named;
    use crate::config::clusters::ClusterSettings;
    use crate::config::settings::{DatabaseSettings, Settings, UserSettings};

    fn args() -> DrillArgs {
        DrillArgs {
            file: PathBuf::from("pooler.toml"),
            cluster: "main".to_owned(),
            to: None,
            database: None,
            user: None,
            admin: None,
            yes: false,
        }
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        let cluster = ClusterSettings {
            patroni: vec!["http://a:8008".to_owned()],
            ..ClusterSettings::default()
        };
        settings.clusters.insert("main".to_owned(), cluster);
        let database = DatabaseSettings {
            cluster: Some("main".to_owned()),
            ..DatabaseSettings::default()
        };
        settings.databases.insert("app".to_owned(), database);
        settings
            .users
            .insert("ann".to_owned(), UserSettings::default());
        settings.pooler.admin_users = vec!["root".to_owned()];
        settings
    }

    fn refused(args: &DrillArgs, settings: &Settings) -> String {
        plan(args, settings).unwrap_err()
    }

    #[test]
    fn what_is_not_said_is_what_there_is_only_one_of() {
        let plan = plan(&args(), &settings()).unwrap();
        let words = (
            plan.database.as_str(),
            plan.user.as_str(),
            plan.admin.as_str(),
        );
        assert_eq!(words, ("app", "ann", "root"));
        assert_eq!(plan.command(), "SWITCHOVER \"main\"");
    }

    #[test]
    fn whatever_is_missing_is_named_with_what_to_do() {
        let mut bad = args();
        bad.cluster = "other".to_owned();
        assert!(refused(&bad, &settings()).contains("(clusters: main)"));
        let mut bad = settings();
        bad.clusters.get_mut("main").unwrap().patroni.clear();
        assert!(refused(&args(), &bad).contains("clusters.main.patroni"));
        let mut bad = settings();
        bad.users.insert("bob".to_owned(), UserSettings::default());
        assert!(refused(&args(), &bad).contains("--user"));
        let mut bad = args();
        bad.database = Some("else".to_owned());
        assert!(refused(&bad, &settings()).contains("is not in the cluster"));
        let mut bad = settings();
        bad.pooler.admin_users.clear();
        assert!(refused(&args(), &bad).contains("admin_users"));
    }

    fn row(cells: &[(&str, &str)]) -> Named {
        let cells = cells.iter();
        cells
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn to_b() -> Plan {
        let mut to = args();
        to.to = Some("b:1".to_owned());
        plan(&to, &settings()).unwrap()
    }

    #[test]
    fn a_cluster_that_is_not_well_is_left_alone() {
        let cluster = |phase| {
            [row(&[
                ("cluster", "main"),
                ("phase", phase),
                ("primary", "a:1"),
            ])]
        };
        let (well, ill) = (cluster("stable"), cluster("orphan"));
        let nodes = [row(&[("cluster", "main"), ("role", "replica")])];
        assert_eq!(check_fit(&to_b(), &well, &nodes).unwrap(), "a:1");
        assert!(
            check_fit(&to_b(), &ill, &nodes)
                .unwrap_err()
                .contains("orphan")
        );
        assert!(
            check_fit(&to_b(), &well, &[])
                .unwrap_err()
                .contains("no replica")
        );
        assert!(check_fit(&to_b(), &[], &nodes).is_err());
    }

    #[test]
    fn what_the_pooler_saw_is_told_without_what_was_not() {
        let outage = row(&[
            ("cluster", "main"),
            ("kind", "switchover"),
            ("primary_before", "a:1"),
            ("primary_after", "b:1"),
            ("draining_ms", "0.0"),
            ("no_writer_ms", "80.1"),
            ("confirmed_ms", "210.0"),
        ]);
        let text = seen_by_pooler(&to_b(), &[outage]);
        assert!(text.contains("switchover, a:1 -> b:1"), "{text}");
        assert!(
            text.contains("draining 0.0, no writer 80.1, confirmed 210.0"),
            "{text}"
        );
        assert_eq!(to_b().command(), "SWITCHOVER \"main\" TO \"b:1\"");
    }
}
