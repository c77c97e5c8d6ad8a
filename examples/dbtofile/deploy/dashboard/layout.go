package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// What the variables choose: pipelines, the processes they run in, and machines.
const (
	pipeline = `{job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}`
	process  = `{job=~"$job",instance=~"$instance"}`
	machine  = `{instance=~"$node"}`

	each  = "{{pipeline}} {{instance}}"
	every = "{{instance}}"
)

// stateOf gives a pipeline's state a number, see states.
const stateOf = `max by (job, instance, pipeline) (` +
	`0 * devotion_state{state="stopped",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}` +
	` or devotion_state{state="idle",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}` +
	` or 2 * devotion_state{state="working",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}` +
	` or 3 * devotion_state{state="held",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}` +
	` or 4 * devotion_state{state="backoff",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}` +
	` or 5 * devotion_overdue` + pipeline + `)`

type row struct {
	title     string
	collapsed bool
	panels    []panel
}

// rate is what a counter grows by in a second, summed over all labels but some.
func rate(counter, by string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s%s[$__rate_interval]))", by, counter, pipeline)
}

// quantiles are the median and the worst hundredth of a histogram.
func quantiles(histogram, by, legend string) []query {
	var queries []query
	for _, q := range []struct{ name, value string }{{"p50", "0.5"}, {"p99", "0.99"}} {
		queries = append(queries, query{
			expr:   fmt.Sprintf("histogram_quantile(%s, sum by (le, %s) (rate(%s_bucket%s[$__rate_interval])))", q.value, by, histogram, pipeline),
			legend: q.name + " " + legend,
		})
	}
	return queries
}

func one(expr, legend string) []query { return []query{{expr, legend}} }

// since is how long ago a moment was.
func since(metric, labels string) string { return "time() - " + metric + labels }

const by = "instance, pipeline"

func layout() []row {
	return []row{
		{panels: []panel{
			{kind: number, title: "State", about: "What each pipeline is about. Click for its status page.", unit: units.NoUnit, width: 5, height: 4, states: true, alert: "PipelineOverdue",
				queries: one(stateOf, each)},
			{kind: number, title: "Rows a second", about: "Rows written and saved, of all pipelines chosen.", unit: units.RowsPerSecond, width: 4, height: 4,
				queries: one(`sum(rate(devotion_rows_written_total`+pipeline+`[$__rate_interval]))`, "rows")},
			{kind: number, title: "Lag, worst", about: "How long after its commit a row arrives. No data: not known yet, as while a backlog is copied after a start.", unit: units.Seconds, width: 4, height: 4, alert: "PipelineLagHigh", limit: lagHigh,
				queries: one(`max(devotion_lag_seconds`+pipeline+`)`, "lag")},
			{kind: number, title: "Freshness, worst", about: "Time since the last turn that ended well, also one that found nothing.", unit: units.Seconds, width: 4, height: 4, alert: "PipelineStalled", limit: stalled,
				queries: one(`max(`+since("max_over_time(devotion_last_success_timestamp_seconds", pipeline)+`[1d]))`, "freshness")},
			{kind: number, title: "Errors in the last hour", about: "Failed attempts of all steps. A few are no reason to worry: they are tried again.", unit: units.Short, width: 4, height: 4,
				queries: one(`sum(increase(devotion_errors_total`+pipeline+`[1h]))`, "errors")},
			{kind: number, title: "Alerts", about: "Alerts that fire now, the Watchdog not counted.", unit: units.Short, width: 3, height: 4, limit: 1,
				queries: one(`count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)`, "alerts")},
		}},
		{title: "Data", panels: []panel{
			{title: "Rows", about: "Rows read from the database, and written and saved.", unit: units.RowsPerSecond, width: 12, height: 8,
				queries: []query{{rate("devotion_rows_read_total", by), "read " + each}, {rate("devotion_rows_written_total", by), "written " + each}}},
			{title: "Bytes written", about: "About how much data the rows are.", unit: units.BytesPerSecondIEC, width: 12, height: 8,
				queries: one(rate("devotion_written_bytes_total", by), each)},
			{kind: timeline, title: "State over time", about: "What each pipeline was about. Click for its status page.", unit: units.NoUnit, width: 24, height: 5, states: true, alert: "PipelineOverdue",
				queries: one(stateOf, each)},
		}},
		{title: "Freshness", panels: []panel{
			{title: "Lag", about: "How long after its commit a row arrives. No line: not known, as while a backlog is copied after a start.", unit: units.Seconds, width: 8, height: 8, alert: "PipelineLagHigh", limit: lagHigh,
				queries: one(`devotion_lag_seconds`+pipeline, each)},
			{title: "Time since the last success", about: "A turn of the loop that ended well, also one that found nothing. Over a restart it goes on.", unit: units.Seconds, width: 8, height: 8, alert: "PipelineStalled", limit: stalled,
				queries: one(since("max_over_time(devotion_last_success_timestamp_seconds", pipeline)+`[1d])`, each)},
			{title: "Held back", about: "How long an open transaction of somebody else has kept rows back. The status page names it.", unit: units.Seconds, width: 8, height: 8, alert: "PipelineHeldBack", limit: held,
				queries: one(`devotion_held_seconds`+pipeline, each)},
		}},
		{title: "Latency", panels: []panel{
			{title: "Turn of the loop", about: "From the beginning of the fetch to the end of the save, of turns that found nothing, too.", unit: units.Seconds, width: 8, height: 8,
				queries: quantiles("devotion_poll_duration_seconds", by, each)},
			{title: "Steps", about: "Each attempt of a step: fetch, write, save.", unit: units.Seconds, width: 8, height: 8,
				queries: quantiles("devotion_stage_duration_seconds", "stage, "+by, "{{stage}} "+each)},
			{title: "Batch size", about: "Rows in a batch. Always at the limit means that it copies a backlog.", unit: units.Short, width: 8, height: 8,
				queries: quantiles("devotion_batch_rows", by, each)},
		}},
		{title: "Errors", panels: []panel{
			{title: "Errors by step and class", about: "Failed attempts. transient: may pass; setup: access or schema; data, rejected: of a row; conflict: another writer; fatal: ends the run.", unit: units.EventsPerSecond, width: 8, height: 8,
				queries: one(rate("devotion_errors_total", "stage, class, "+by), "{{stage}} {{class}} "+each)},
			{title: "Retries by step and class", about: "Attempts after a failure. An outage makes 4 a minute, a storm many more.", unit: units.EventsPerSecond, width: 8, height: 8, alert: "PipelineRetryStorm", limit: storm,
				queries: one(rate("devotion_retries_total", "stage, class, "+by), "{{stage}} {{class}} "+each)},
			{title: "Failed turns", about: "Their share in all turns of the loop.", unit: units.PercentUnit, width: 8, height: 8, alert: "PipelineErrorRatio", limit: errorRatio, max: 1,
				queries: one(`sum by (`+by+`) (rate(devotion_polls_total{outcome="error",job=~"$job",instance=~"$instance",pipeline=~"$pipeline"}[$__rate_interval])) / `+rate("devotion_polls_total", by), each)},
			{title: "Dead letters", about: "Rows that the sink refused, in the hour before.", unit: units.Short, width: 8, height: 8, alert: "PipelineDeadLetters",
				queries: one(`sum by (`+by+`) (increase(devotion_rows_dead_lettered_total`+pipeline+`[1h]))`, each)},
			{title: "Backoff", about: "How long it waits before the next attempt; 0 when nothing fails.", unit: units.Seconds, width: 8, height: 8,
				queries: one(`devotion_backoff_seconds`+pipeline, each)},
			{title: "Time since the last error", about: "No line: none since the start.", unit: units.Seconds, width: 8, height: 8,
				queries: one(since("devotion_last_error_timestamp_seconds", pipeline), each)},
		}},
		{title: "Flow", panels: []panel{
			{title: "Turns by outcome", about: "rows: delivered some; empty: found nothing new; held: kept back; error: a failed attempt.", unit: units.OpsPerSecond, width: 6, height: 8,
				queries: one(rate("devotion_polls_total", "outcome, "+by), "{{outcome}} "+each)},
			{title: "Checkpoints", about: "How often the cursor was saved.", unit: units.OpsPerSecond, width: 6, height: 8, alert: "PipelineCheckpointFailing",
				queries: one(rate("devotion_checkpoints_total", by), each)},
			{title: "Age of checkpoint and of the last row", about: "Both grow while there are no new rows.", unit: units.Seconds, width: 6, height: 8,
				queries: []query{{since("devotion_last_checkpoint_timestamp_seconds", pipeline), "checkpoint " + each}, {since("devotion_last_row_timestamp_seconds", pipeline), "row " + each}}},
			{title: "Rows in flight", about: "Rows of the batch that is being written or saved at this moment.", unit: units.Short, width: 6, height: 8,
				queries: one(`devotion_in_flight_rows`+pipeline, each)},
		}},
		{title: "Process", collapsed: true, panels: []panel{
			{kind: name, title: "Version", about: "The program that runs.", unit: units.NoUnit, width: 4, height: 8,
				queries: one(`devotion_build_info`+process, "{{version}}")},
			{title: "Restarts", about: "In the 15 minutes before.", unit: units.Short, width: 5, height: 8, alert: "PipelineCrashLoop", limit: crashes,
				queries: one(`changes(process_start_time_seconds`+process+`[15m])`, every)},
			{title: "CPU", about: "Cores in use.", unit: units.Short, width: 5, height: 8,
				queries: one(`rate(process_cpu_seconds_total`+process+`[$__rate_interval])`, every)},
			{title: "Memory", about: "Of the process, and of that what Go has in use.", unit: units.BytesIEC, width: 5, height: 8,
				queries: []query{{`process_resident_memory_bytes` + process, "resident " + every}, {`go_memstats_heap_inuse_bytes` + process, "heap " + every}}},
			{title: "Goroutines", about: "A number that only grows is a leak.", unit: units.Short, width: 5, height: 8,
				queries: one(`go_goroutines`+process, every)},
		}},
		{title: "Updates and machine", collapsed: true, panels: []panel{
			{kind: name, title: "Running release", about: "As the updater has found it.", unit: units.NoUnit, width: 4, height: 4,
				queries: one(`dbtofile_update_info`+machine, "{{version}}")},
			{kind: number, title: "Last check", about: "Time since a valid index of releases was read.", unit: units.Seconds, width: 4, height: 4, alert: "UpdateCheckStale", limit: checkStale,
				queries: one(since("dbtofile_update_last_check_timestamp_seconds", machine), every)},
			{kind: number, title: "Last deploy", about: "Time since a release was deployed.", unit: units.Seconds, width: 4, height: 4,
				queries: one(since("dbtofile_update_last_deploy_timestamp_seconds", machine), every)},
			{kind: number, title: "Pending", about: "1: a newer release is known and not deployed.", unit: units.Short, width: 4, height: 4, alert: "UpdateWaiting",
				queries: one(`dbtofile_update_pending`+machine, every)},
			{kind: number, title: "Quarantined", about: "Releases that were rolled back and are not tried again.", unit: units.Short, width: 4, height: 4, alert: "UpdateRolledBack", limit: 1,
				queries: one(`dbtofile_update_quarantined_releases`+machine, every)},
			{kind: number, title: "Last rollback", about: "Time since a release was taken back.", unit: units.Seconds, width: 4, height: 4, alert: "UpdateRolledBack",
				queries: one(since("dbtofile_update_last_rollback_timestamp_seconds", machine), every)},
			{title: "Runs of the updater", about: "In the day before: deploys, rollbacks, runs put off because the pipeline was not healthy, failures.", unit: units.Short, width: 8, height: 8, alert: "UpdateRolledBack",
				queries: []query{
					{`increase(dbtofile_update_deploys_total` + machine + `[1d])`, "deploys " + every},
					{`increase(dbtofile_update_rollbacks_total` + machine + `[1d])`, "rollbacks " + every},
					{`increase(dbtofile_update_deferrals_total` + machine + `[1d])`, "put off " + every},
					{`increase(dbtofile_update_failures_total` + machine + `[1d])`, "failures " + every},
				}},
			{title: "Free on disk", about: "Share of each file system that programs can still use.", unit: units.PercentUnit, width: 8, height: 8, alert: "DiskAlmostFull", limit: diskFull, below: true, max: 1,
				queries: one(`node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs",instance=~"$node"} / node_filesystem_size_bytes`, "{{mountpoint}} "+every)},
			{title: "Clock", about: "How far the machine's clock is from that of Prometheus.", unit: units.Seconds, width: 8, height: 8, alert: "ClockSkewed", limit: skew,
				queries: one(`abs(node_time_seconds`+machine+` - timestamp(node_time_seconds`+machine+`))`, every)},
		}},
	}
}
