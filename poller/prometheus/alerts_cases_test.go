package prometheus_test

// rollouts are three pods, one after another, with gaps of two minutes. The last
// one runs for a day.
var rollouts = []string{
	`up{} 1x60 stale`, `up{instance="b:80"} _x62 0 1x60 stale`, `up{instance="c:80"} _x126 0 1x1500`,
	`process_start_time_seconds{} 0x60 stale`, `process_start_time_seconds{instance="b:80"} _x63 3780x60 stale`, `process_start_time_seconds{instance="c:80"} _x127 7620x1500`,
	`interval_seconds{pipeline="orders"} 1x60 stale`, `interval_seconds{pipeline="orders",instance="b:80"} _x63 1x60 stale`, `interval_seconds{pipeline="orders",instance="c:80"} _x127 1x1500`,
	`last_success_timestamp_seconds{pipeline="orders"} 0+60x60 stale`, `last_success_timestamp_seconds{pipeline="orders",instance="b:80"} _x63 3780+60x60 stale`, `last_success_timestamp_seconds{pipeline="orders",instance="c:80"} _x127 7620+60x1500`,
	`lag_objective_seconds{pipeline="orders"} 900x60 stale`, `lag_objective_seconds{pipeline="orders",instance="b:80"} _x63 900x60 stale`, `lag_objective_seconds{pipeline="orders",instance="c:80"} _x127 900x1500`,
	`lag_seconds{pipeline="orders"} 1x60 stale`, `lag_seconds{pipeline="orders",instance="b:80"} _x66 1x57 stale`, `lag_seconds{pipeline="orders",instance="c:80"} _x130 1x1497`,
	`rows_dead_lettered_total{pipeline="orders"} 2x60 stale`, `rows_dead_lettered_total{pipeline="orders",instance="b:80"} _x63 0x60 stale`, `rows_dead_lettered_total{pipeline="orders",instance="c:80"} _x127 0x1500`,
	`polls_total{pipeline="orders",outcome="empty"} 0+60x60 stale`, `polls_total{pipeline="orders",outcome="empty",instance="b:80"} _x63 0+60x60 stale`, `polls_total{pipeline="orders",outcome="empty",instance="c:80"} _x127 0+60x1500`,
}

// The cases of TestAlerts. Each alert is silent close to where it fires, fires and
// ends. Pipelines other than orders are close to firing, and do not.
var alertCases = []alertCase{
	{
		// 600 s after the last success, and a minute more. The success at 61m ends it.
		name: "a pipeline stalls", alert: "PipelineStalled",
		series: []string{
			`last_success_timestamp_seconds{pipeline="orders"} 0+60x30 1800x29 3660+60x20`, `interval_seconds{pipeline="orders"} 1x80`,
			`last_success_timestamp_seconds{pipeline="items"} 0+60x80`, `interval_seconds{pipeline="items"} 1x80`,
			`last_success_timestamp_seconds{pipeline="orders",job="billing"} 0+60x80`, `interval_seconds{pipeline="orders",job="billing"} 1x80`,
		},
		at: []moment{{"40m", nil}, {"41m", nil}, {"42m", orders("12m 0s")}, {"60m", orders("30m 0s")}, {"61m", nil}},
	},
	{
		// A new process does not know the last success, and most scrapes fail.
		name: "a crash loop does not reset the time", alert: "PipelineStalled",
		series: []string{
			`last_success_timestamp_seconds{pipeline="orders"} 0+60x10`,
			`interval_seconds{pipeline="orders"} 1x10 _ 1 _ _ 1 _ _ 1 _ _ 1 _ _ 1 _ _ 1 _ _`,
		},
		at: []moment{{"20m", nil}, {"22m", orders("12m 0s")}, {"60m", orders("50m 0s")}},
	},
	{
		name: "a pipeline never succeeds, at three addresses", alert: "PipelineStalled",
		series: []string{
			`interval_seconds{pipeline="orders"} _x10 1x5 stale`,
			`interval_seconds{pipeline="orders",instance="b:80"} _x16 1x5 stale`,
			`interval_seconds{pipeline="orders",instance="c:80"} _x22 1x60`,
		},
		at: []moment{{"20m", nil}, {"22m", orders("12m 0s")}, {"70m", orders("1h 0m 0s")}},
	},
	{
		name: "a pipeline that polls every hour has three hours", alert: "PipelineStalled",
		series: []string{`last_success_timestamp_seconds{pipeline="orders"} 0x300`, `interval_seconds{pipeline="orders"} 3600x300`},
		at:     []moment{{"180m", nil}, {"182m", orders("3h 2m 0s")}},
	},
	{
		name: "a clock is ahead", alert: "PipelineStalled",
		series: []string{`last_success_timestamp_seconds{pipeline="orders"} 3600+60x60`, `interval_seconds{pipeline="orders"} 1x60`},
		at:     []moment{{"30m", nil}},
	},
	{
		name: "a pipeline that disappears is reported for a day", alert: "PipelineStalled", every: "10m",
		series: []string{`last_success_timestamp_seconds{pipeline="orders"} 0+60x10 stale`, `interval_seconds{pipeline="orders"} 1x10 stale`},
		at:     []moment{{"20m", nil}, {"40m", orders("30m 0s")}, {"23h", orders("22h 50m 0s")}, {"24h20m", nil}},
	},
	{
		// orders runs again from 60m and fails. items: one of two replicas is done. carts: failed.
		name: "a pipeline that is done needs nobody", alert: "PipelineStalled",
		series: []string{
			`last_success_timestamp_seconds{pipeline="orders"} 0+60x10 600x90`, `interval_seconds{pipeline="orders"} 1x100`, `state{pipeline="orders",state="done"} 0x9 1x49 0x40`,
			`last_success_timestamp_seconds{pipeline="items"} 0+60x100`, `interval_seconds{pipeline="items"} 1x100`, `state{pipeline="items",state="done"} 1x100`,
			`state{pipeline="items",state="done",instance="b:80"} 0x100`,
			`interval_seconds{pipeline="carts"} 1x100`, `state{pipeline="carts",state="done"} 0x100`,
		},
		at: []moment{{"9m", nil}, {"30m", []firing{{"pipeline=carts", "30m 0s"}}}, {"59m", []firing{{"pipeline=carts", "59m 0s"}}},
			{"64m", []firing{{"pipeline=carts", "1h 4m 0s"}, {"pipeline=orders", "54m 0s"}}}},
	},
	{
		name: "one of two replicas is done, and nothing succeeds", alert: "PipelineStalled",
		series: []string{
			`interval_seconds{pipeline="orders"} 1x40`, `state{pipeline="orders",state="done"} 1x40`,
			`interval_seconds{pipeline="orders",instance="b:80"} 1x40`, `state{pipeline="orders",state="done",instance="b:80"} 0x40`,
		},
		at: []moment{{"9m", nil}, {"15m", orders("15m 0s")}},
	},
	{
		name: "the program of a pipeline that is done ends", alert: "PipelineStalled",
		series: []string{
			`up{} 1x30 0x60`, `last_success_timestamp_seconds{pipeline="orders"} 0+60x10 600x20 stale`,
			`interval_seconds{pipeline="orders"} 1x30 stale`, `state{pipeline="orders",state="done"} 0x10 1x20 stale`,
		},
		at: []moment{{"30m", nil}, {"33m", nil}, {"34m", nil}, {"35m", nil}, {"36m", nil}, {"40m", nil}, {"90m", nil}},
	},
	{
		name: "the target of a pipeline that is done is removed", alert: "PipelineStalled",
		series: []string{
			`up{} 1x30 stale`, `last_success_timestamp_seconds{pipeline="orders"} 0+60x10 600x20 stale`,
			`interval_seconds{pipeline="orders"} 1x30 stale`, `state{pipeline="orders",state="done"} 0x10 1x20 stale`,
		},
		at: []moment{{"30m", nil}, {"35m", nil}, {"40m", orders("30m 0s")}},
	},
	{
		// items also runs at b:80, and fails there. The program answers from 40m, and orders fails.
		name: "a program that is down is reported once", alert: "PipelineStalled",
		series: []string{
			`up{} 1x9 0x29 1x20`, `up{instance="b:80"} 1x60`,
			`interval_seconds{pipeline="orders"} 1x9 stale _x29 1x20`, `last_success_timestamp_seconds{pipeline="orders"} 0+60x9 stale`,
			`interval_seconds{pipeline="items"} 1x9 stale _x29 1x20`, `last_success_timestamp_seconds{pipeline="items"} 0+60x9 stale`,
			`interval_seconds{pipeline="items",instance="b:80"} 1x60`,
		},
		at: []moment{{"15m", nil}, {"30m", []firing{{"pipeline=items", "21m 0s"}}}, {"45m", []firing{{"pipeline=items", "36m 0s"}, {"pipeline=orders", "36m 0s"}}}},
	},
	{
		// The target answers one scrape in four.
		name: "a program that crashes again and again is not down", alert: "PipelineStalled",
		series: []string{`up{} 1x9 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1`, `interval_seconds{pipeline="orders"} 1x9 _ _ _ 1 _ _ _ 1 _ _ _ 1 _ _ _ 1 _ _ _ 1`},
		at:     []moment{{"9m", nil}, {"20m", orders("20m 0s")}, {"24m", orders("24m 0s")}},
	},
	{
		name: "rollouts", every: "5m", series: rollouts,
		at: []moment{{"65m", nil}, {"75m", nil}, {"90m", nil}, {"130m", nil}, {"140m", nil}, {"3h", nil}},
	},
	{
		name: "a day after rollouts", every: "1h", series: rollouts,
		at: []moment{{"10h", nil}, {"24h", nil}, {"26h", nil}},
	},
	{
		// Nothing fires for targets without pipelines. One pipeline exists, or PipelineAbsent would.
		name: "other systems",
		series: []string{
			`up{job="web",instance="w:80"} 0x60`, `process_start_time_seconds{job="web",instance="w:80"} 0+60x60`,
			`up{} 1x60`, `process_start_time_seconds{} 0x60`, `interval_seconds{pipeline="orders"} 1x60`, `last_success_timestamp_seconds{pipeline="orders"} 0+60x60`,
		},
		at: []moment{{"10m", nil}, {"30m", nil}, {"60m", nil}},
	},
	{
		name: "a program is down", alert: "PipelineDown",
		series: []string{
			`up{} 1 1 1 0 1 1 1 1 1 1 0x9 1x10`, `interval_seconds{pipeline="orders"} 1x9 stale _x9 1x10`,
			`up{instance="b:80"} 1x40`, `interval_seconds{pipeline="items",instance="b:80"} 1x40`,
		},
		at: []moment{{"4m", nil}, {"11m", nil}, {"12m", []firing{{"instance=a:80", ""}}}, {"20m", nil}},
	},
	{
		name: "a program is down for more than a day", alert: "PipelineDown", every: "4m",
		series: []string{`up{} 1x10 0x1700 1x100`, `interval_seconds{pipeline="orders"} 1x10 stale`},
		at:     []moment{{"8m", nil}, {"1h", []firing{{"instance=a:80", ""}}}, {"28h", []firing{{"instance=a:80", ""}}}, {"29h", nil}},
	},
	{
		// The target is configured at 20m. A failed scrape at 25m is not an absence.
		name: "no pipeline is seen", alert: "PipelineAbsent",
		series: []string{`up{job="node"} 1x40`, `interval_seconds{pipeline="orders"} _x20 1x5 _ 1x20`},
		at:     []moment{{"4m", nil}, {"6m", []firing{{"", ""}}}, {"21m", nil}, {"26m", nil}},
	},
	{
		// A restart at 20m ends it. A failed scrape does not restart the 5 minutes. items: 4 minutes.
		name: "a step hangs", alert: "PipelineOverdue",
		series: []string{`overdue{pipeline="orders"} 0x4 1x3 stale 1x10 0x10`, `overdue{pipeline="items"} 0x10 1x3 0x20`},
		at:     []moment{{"9m", nil}, {"10m", []firing{{"pipeline=orders,instance=a:80", ""}}}, {"14m", []firing{{"pipeline=orders,instance=a:80", ""}}}, {"22m", nil}},
	},
	{
		// orders: unknown from 10m to 60m, over a restart. items: unknown for 25 minutes. carts: without an objective.
		name: "the lag is unknown", alert: "PipelineLagUnknown",
		series: []string{
			`lag_objective_seconds{pipeline="orders"} 900x20 _ 900x80`, `lag_seconds{pipeline="orders"} 1x9 stale _x50 1x40`,
			`lag_objective_seconds{pipeline="items"} 900x100`, `lag_seconds{pipeline="items"} 1x9 stale _x25 1x60`,
			`interval_seconds{pipeline="carts"} 1x100`,
		},
		at: []moment{{"40m", nil}, {"43m", orders("")}, {"60m", orders("")}, {"62m", nil}},
	},
	{
		// A failed scrape does not end it, nor a restart after which the lag is unknown. items: a burst of 4 minutes, then
		// 15 minutes. carts: an objective of 1,200 s. users: the other replica has delivered.
		name: "rows come late", alert: "PipelineLagHigh",
		series: []string{
			`lag_seconds{pipeline="orders"} 0x9 1000x3 stale 1000x15 stale _x20`, `lag_objective_seconds{pipeline="orders"} 900x60`,
			`lag_seconds{pipeline="items"} 0x9 1000x3 0x20 900x20`, `lag_objective_seconds{pipeline="items"} 900x60`,
			`lag_seconds{pipeline="carts"} 1150x60`, `lag_objective_seconds{pipeline="carts"} 1200x60`,
			`lag_seconds{pipeline="users"} 0+60x60`, `lag_objective_seconds{pipeline="users"} 900x60`,
			`lag_seconds{pipeline="users",instance="b:80"} 1x60`, `lag_objective_seconds{pipeline="users",instance="b:80"} 900x60`,
		},
		at: []moment{{"14m", nil}, {"16m", orders("16m 40s")}, {"34m", orders("16m 40s")}, {"50m", nil}},
	},
	{
		name: "a pipeline with a small objective", alert: "PipelineLagHigh",
		series: []string{`lag_seconds{pipeline="orders"} 5x9 11x15 5x20`, `lag_objective_seconds{pipeline="orders"} 10x60`},
		at:     []moment{{"9m", nil}, {"16m", orders("11s")}, {"40m", nil}},
	},
	{
		// orders: by half a second per second, and a scrape fails. items: shrinks. carts: by 0.09. users: small. views: of a large objective.
		name: "the lag grows", alert: "PipelineLagGrowing",
		series: []string{
			`lag_seconds{pipeline="orders"} 0+30x19 stale 630+30x39 0x30`, `lag_objective_seconds{pipeline="orders"} 900x100`,
			`lag_seconds{pipeline="items"} 4000-30x90`, `lag_objective_seconds{pipeline="items"} 900x100`,
			`lag_seconds{pipeline="carts"} 1000+5.4x90`, `lag_objective_seconds{pipeline="carts"} 900x100`,
			`lag_seconds{pipeline="users"} 0+7x40 0+7x40`, `lag_objective_seconds{pipeline="users"} 900x100`,
			`lag_seconds{pipeline="views"} 600+8x70`, `lag_objective_seconds{pipeline="views"} 2400x100`,
		},
		at: []moment{{"30m", nil}, {"32m", orders("16m 0s")}, {"62m", nil}},
	},
	{
		// The lag was even, and grows at another address from 21m.
		name: "the lag grows at another address", alert: "PipelineLagGrowing",
		series: []string{
			`lag_seconds{pipeline="orders"} 500x20 stale`, `lag_objective_seconds{pipeline="orders"} 900x20 stale`,
			`lag_seconds{pipeline="orders",instance="b:80"} _x21 530+30x29 stale`, `lag_objective_seconds{pipeline="orders",instance="b:80"} _x21 900x29 stale`,
		},
		at: []moment{{"30m", nil}, {"41m", orders("18m 50s")}, {"60m", nil}},
	},
	{
		// orders: a restart and a failed scrape between. items: 14 minutes. carts: an objective of 3 hours.
		name: "a transaction is open", alert: "PipelineHeldBack",
		series: []string{
			`held_seconds{pipeline="orders"} 0x9 0+60x20 _ 1320+60x8 0x30`, `lag_objective_seconds{pipeline="orders"} 900x90`,
			`held_seconds{pipeline="items"} 0x9 0+60x14 0x60`, `lag_objective_seconds{pipeline="items"} 900x90`,
			`held_seconds{pipeline="carts"} 0+60x90`, `lag_objective_seconds{pipeline="carts"} 10800x90`,
		},
		at: []moment{{"25m", nil}, {"27m", orders("17m 0s")}, {"35m", orders("25m 0s")}, {"45m", nil}},
	},
	{
		// orders: 12 GiB from 20m to 40m. items: 9 GiB. carts: 12 GiB for 4 minutes.
		name: "the database keeps its log", alert: "PipelinePinsLog",
		series: []string{
			`log_pinned_bytes{pipeline="orders"} 0x19 12884901888x20 0x40`, `log_pinned_bytes{pipeline="items"} 9663676416x90`,
			`log_pinned_bytes{pipeline="carts"} 0x19 12884901888x3 0x60`,
		},
		at: []moment{{"23m", nil}, {"35m", orders("12Gi")}, {"50m", nil}},
	},
	{
		// orders: 12 % from 20m to 50m, with a rollout between. items: 9 %. carts: half of few polls. users: an outage of 8 minutes.
		name: "some polls fail", alert: "PipelineErrorRatio",
		series: []string{
			`polls_total{pipeline="orders",outcome="empty"} 0+44x100`, `polls_total{pipeline="orders",outcome="error"} 0x20 6+6x30 186x50`,
			`polls_total{pipeline="items",outcome="empty"} 0+45.5x100`, `polls_total{pipeline="items",outcome="error"} 0+4.5x100`,
			`polls_total{pipeline="carts",outcome="empty"} 0+0.45x100`, `polls_total{pipeline="carts",outcome="error"} 0+0.45x100`,
			`polls_total{pipeline="users",outcome="empty"} 0+60x20 1200x7 1260+60x60`, `polls_total{pipeline="users",outcome="error"} 0x20 4+4x7 36x70`,
		},
		at: []moment{{"28m", nil}, {"45m", orders("12%")}, {"65m", nil}},
	},
	{
		// orders: 14 a minute from 20m to 50m, of two steps at two addresses. items: 10 a minute. carts: a storm of 5 minutes.
		name: "steps alternately fail and succeed", alert: "PipelineRetryStorm",
		series: []string{
			`retries_total{pipeline="orders",stage="fetch",class="transient"} 0x20 7+7x30 217x50`,
			`retries_total{pipeline="orders",stage="write",class="transient",instance="b:80"} 0x20 7+7x30 217x50`,
			`retries_total{pipeline="items",stage="fetch",class="transient"} 0+10x100`,
			`retries_total{pipeline="carts",stage="fetch",class="transient"} 0x20 30+30x4 180x70`,
		},
		at: []moment{{"25m", nil}, {"40m", orders("70")}, {"58m", nil}},
	},
	{
		// items: a save fails now and then. carts: nothing to save. users: for 4 minutes. views: writes fail.
		name: "nothing is saved", alert: "PipelineCheckpointFailing",
		series: []string{
			`errors_total{pipeline="orders",stage="save",class="transient"} 0x10 4+4x29 124x30`, `checkpoints_total{pipeline="orders"} 0+5x10 50x29 55+5x30`,
			`errors_total{pipeline="items",stage="save",class="transient"} 0+1x80`, `checkpoints_total{pipeline="items"} 0+0.5x80`,
			`errors_total{pipeline="carts",stage="save",class="transient"} 0x80`, `checkpoints_total{pipeline="carts"} 90x80`,
			`errors_total{pipeline="users",stage="save",class="transient"} 0x10 4+4x4 20x60`, `checkpoints_total{pipeline="users"} 0+5x10 50x4 55+5x60`,
			`errors_total{pipeline="views",stage="write",class="transient"} 0+4x80`, `checkpoints_total{pipeline="views"} 0x80`,
		},
		at: []moment{{"15m", nil}, {"24m", orders("")}, {"45m", nil}},
	},
	{
		// items: 3 long ago, and Prometheus is down for half an hour. carts: a deployment, after rows were refused long ago.
		name: "rows are refused", alert: "PipelineDeadLetters",
		series: []string{
			`last_dead_letter_timestamp_seconds{pipeline="orders"} _x100 6030x400`,
			`last_dead_letter_timestamp_seconds{pipeline="items"} _x0 -7200x200 _x30 -7200x200`,
			`last_dead_letter_timestamp_seconds{pipeline="carts"} -7200x50 stale`, `interval_seconds{pipeline="carts"} 1x50 _ 1x300`,
		},
		at: []moment{{"99m", nil}, {"102m", orders("")}, {"160m", orders("")}, {"162m", nil}, {"340m", nil}},
	},
	{
		// orders: at the same address, after two hours without a program. items: at another address. Then both are gone.
		name: "a new process refuses rows before its first scrape", alert: "PipelineDeadLetters",
		series: []string{
			`rows_dead_lettered_total{pipeline="orders"} 2x10 stale _x119 2x20 stale`, `last_dead_letter_timestamp_seconds{pipeline="orders"} _x131 7830x20 stale`,
			`rows_dead_lettered_total{pipeline="items"} 0x10 stale`,
			`rows_dead_lettered_total{pipeline="items",instance="b:80"} _x131 2x20 stale`, `last_dead_letter_timestamp_seconds{pipeline="items",instance="b:80"} _x131 7830x20 stale`,
		},
		at: []moment{{"129m", nil}, {"132m", []firing{{"pipeline=items", ""}, {"pipeline=orders", ""}}},
			{"189m", []firing{{"pipeline=items", ""}, {"pipeline=orders", ""}}}, {"192m", nil}},
	},
	{
		name: "rows are refused, and a clock is two hours behind", alert: "PipelineDeadLetters",
		series: []string{`rows_dead_lettered_total{pipeline="orders"} 0x10 2x200`, `last_dead_letter_timestamp_seconds{pipeline="orders"} _x10 -6600x200`},
		at:     []moment{{"10m", nil}, {"12m", orders("")}, {"69m", orders("")}, {"72m", nil}},
	},
	{
		// items: a standby has nothing to upload, and each upload of the active one takes 20 minutes. carts: no uploads.
		name: "nothing is uploaded", alert: "PipelineUploadsLate",
		series: []string{
			`upload_lag_seconds{pipeline="orders"} 0x10 0+60x50 0x30`, `upload_lag_seconds{pipeline="orders",instance="b:80"} 0x100`,
			`upload_lag_seconds{pipeline="items"} 0+60x20 0+60x20 0+60x20`, `lag_seconds{pipeline="carts"} 0+60x90`,
		},
		at: []moment{{"45m", nil}, {"48m", orders("37m 0s")}, {"61m", orders("50m 0s")}, {"62m", nil}},
	},
	{
		// a: every 3 minutes until 30m. b: a deployment and its rollback.
		name: "a program restarts again and again", alert: "PipelineCrashLoop",
		series: []string{
			`process_start_time_seconds{} 0x9 600 600 _ 780 780 _ 960 960 _ 1140 1140 _ 1320x60`, `interval_seconds{pipeline="orders"} 1x90`,
			`process_start_time_seconds{instance="b:80"} 0x9 600x4 900x60`, `interval_seconds{pipeline="items",instance="b:80"} 1x90`,
		},
		at: []moment{{"15m", nil}, {"20m", []firing{{"instance=a:80", "4"}}}, {"40m", nil}},
	},
}
