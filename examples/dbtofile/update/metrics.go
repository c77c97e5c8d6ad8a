package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const metricsFile = "dbtofile-update.prom"

// report writes the metrics for the textfile collector of node_exporter.
func (u *updater) report(running string) error {
	if info, err := os.Stat(u.metricsDir); u.metricsDir == "" || err != nil || !info.IsDir() {
		return nil // there is no node_exporter
	}
	return u.writeFile(filepath.Join(u.metricsDir, metricsFile), []byte(u.memory.metrics(running)), 0o644)
}

// metrics returns what is remembered in Prometheus' text format. Times that have not
// come yet are left out.
func (s state) metrics(running string) string {
	var b strings.Builder
	metric := func(name, kind, help, labels string, value float64) {
		fmt.Fprintf(&b, "# HELP dbtofile_update_%[1]s %[2]s\n# TYPE dbtofile_update_%[1]s %[3]s\ndbtofile_update_%[1]s%[4]s %[5]v\n", name, help, kind, labels, value)
	}
	moment := func(name, help string, t time.Time) {
		if !t.IsZero() {
			metric(name+"_timestamp_seconds", "gauge", help, "", float64(t.UnixMilli())/1000)
		}
	}
	if running != "" {
		metric("info", "gauge", "The version of dbtofile that runs.", fmt.Sprintf("{version=%q}", running), 1)
	}
	moment("last_check", "When a signed and fresh index was last read.", s.LastCheck)
	moment("last_deploy", "When a release was last deployed and did well.", s.LastDeploy)
	moment("last_rollback", "When a release was last rolled back.", s.LastRollback)
	metric("deploys_total", "counter", "Releases deployed that did well.", "", float64(s.Deploys))
	metric("rollbacks_total", "counter", "Releases rolled back.", "", float64(s.Rollbacks))
	metric("deferrals_total", "counter", "Runs that left things as they were, since dbtofile did not do well before.", "", float64(s.Deferrals))
	metric("failures_total", "counter", "Runs that ended with an error.", "", float64(s.Failures))
	metric("quarantined_releases", "gauge", "Releases that were rolled back and will not be tried again.", "", float64(len(s.Quarantined)))
	waiting := 0.0
	if s.Available != "" {
		waiting = 1
	}
	metric("pending", "gauge", "1 if a release is known that is to be deployed and is not.", "", waiting)
	return b.String()
}
