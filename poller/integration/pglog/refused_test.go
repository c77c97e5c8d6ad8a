package pglog_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/pglog"
)

func fetch(s *pglog.Source, after source.Cursor) error {
	_, err := s.Fetch(context.Background(), after, 10)
	return err
}

func refused(t *testing.T, kind, err error, parts ...string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	lab.RequirePermanent(t, err, parts...)
}

func TestSetupIsIncomplete(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key)`)
	s := open(t, db)
	refused(t, pglog.ErrSetup, fetch(s, ""), "publication p does not exist")
	db.MustExec(`create publication p for table t with (publish = 'insert')`)
	refused(t, pglog.ErrSetup, fetch(s, ""), "leaves changes out")
	db.MustExec(`alter publication p set (publish = 'insert, update, delete, truncate')`)

	role := "plain" + d.Name()
	db.MustExec(`create role ` + role + ` login password 'x'; grant select on t to ` + role)
	poor := d.WithUser(role, "x").Open(t, dbtest.PGX)
	s = open(t, poor)
	refused(t, pglog.ErrSetup, fetch(s, ""), "REPLICATION")
	db.MustExec(`alter role ` + role + ` replication`)
	require.NoError(t, fetch(s, ""), "no other right is needed")

	for plugin, create := range map[string]string{"pgoutput, of": `select pg_create_logical_replication_slot('other', 'pgoutput')`, "physical": `select pg_create_physical_replication_slot('other')`,
		"test_decoding": `select pg_create_logical_replication_slot('other', 'test_decoding')`} {
		at := d.Name()
		if plugin == "pgoutput, of" {
			at = "postgres"
		}
		elsewhere := server.Database(at).Open(t, dbtest.PGX)
		elsewhere.MustExec(create)
		s = open(t, db)
		s.Slot = "other"
		refused(t, pglog.ErrSetup, fetch(s, ""), "slot other")
		elsewhere.MustExec(`select pg_drop_replication_slot('other')`)
	}
	db.MustExec(`select pg_create_logical_replication_slot('early', 'pgoutput'); create table u (id int primary key); insert into u values (1)`)
	db.MustExec(`create publication late for table u`)
	s = open(t, db)
	s.Slot, s.Publication, s.SkipCopy = "early", "late", true
	if err := fetch(s, ""); err != nil { // Postgres 18 ignores a publication that is missing
		refused(t, pglog.ErrSetup, err, "create the publication first")
	}

	one := d.Open(t, dbtest.PGX)
	one.SetMaxOpenConns(1)
	lab.RequirePermanent(t, fetch(open(t, one), ""), "SetMaxOpenConns")

	low := dbtest.StartPostgres(t).NewDatabase(t).Open(t, dbtest.PGX)
	refused(t, pglog.ErrSetup, fetch(open(t, low), ""), "wal_level is replica")
}

func TestSlotIsLost(t *testing.T) {
	t.Parallel()
	server := start(t, "-c", "max_slot_wal_keep_size=1MB", "-c", "min_wal_size=32MB", "-c", "max_wal_size=32MB")
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1); create publication p for table t`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	for {
		db.MustExec(`select pg_switch_wal(); create table junk as select repeat('x', 1000) from generate_series(1, 3000); drop table junk; checkpoint`)
		var status string
		require.NoError(t, db.Get(&status, `select wal_status from pg_replication_slots where slot_name = $1`, s.Slot))
		if status == "lost" {
			break
		}
	}
	refused(t, pglog.ErrSlotLost, fetch(s, at), "rewind to the empty cursor")
	db.MustExec(`select pg_drop_replication_slot($1)`, s.Slot)
	refused(t, pglog.ErrSlotLost, fetch(s, at), "does not exist")
	got, at := read(t, s, "", 10)
	assert.Equal(t, []string{"upsert public.t {1} {1} -"}, texts(t, got))
	if version(t, db) < 18 {
		return
	}
	db.MustExec(`alter system set idle_replication_slot_timeout = '1s'`)
	db.MustExec(`select pg_reload_conf()`)
	lab.WaitFor(t, func() bool { // a checkpoint invalidates a slot that no session has read for so long
		var idle, lost bool
		err := db.QueryRow(`select inactive_since < now() - interval '1s', invalidation_reason is not null from pg_replication_slots where slot_name = $1`, s.Slot).Scan(&idle, &lost)
		if idle && !lost {
			db.MustExec(`checkpoint`)
		}
		return err == nil && lost
	})
	refused(t, pglog.ErrSlotLost, fetch(s, at), "idle_timeout", "pg_drop_replication_slot", "rewind to the empty cursor")
}

// Another session that reads the slot is waited for: its process may have been killed.
func TestSlotIsInUse(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t select generate_series(1, 300000)`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, `select count(*) from pg_logical_slot_peek_binary_changes('`+s.Slot+`', null, null, 'proto_version', '1', 'publication_names', 'p'), pg_sleep(0)`)
		done <- err
	}()
	lab.WaitFor(t, func() bool {
		var active bool
		return db.Get(&active, `select active from pg_replication_slots where slot_name = $1`, s.Slot) == nil && active || len(done) > 0
	})
	b, err := lab.Fetch(t, s, at, 10)
	if err != nil {
		require.ErrorIs(t, err, pglog.ErrSlotActive)
		assert.NotEqual(t, retry.Fatal, retry.Classify(err))
	} else {
		assert.Len(t, b.Records, 10)
	}
	cancel()
	t.Log(<-done)
}

// A process that was killed can leave a statement on the server, which advances the slot while the next process
// begins to read. The history is still the same.
func TestSlotIsAdvancedMeanwhile(t *testing.T) {
	t.Parallel()
	d := start(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	killed := open(t, db)
	_, at := read(t, killed, "", 10)
	db.MustExec(`insert into t values (1)`)
	b, err := lab.Fetch(t, killed, at, 1)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	b, err = lab.Fetch(t, killed, b.To, 1) // the cursor is now after the transaction
	require.NoError(t, err)
	db.MustExec(`insert into t values (2)`)

	fields := strings.Split(string(b.To), ";")
	var once sync.Once
	traced := traced(t, d, tracer{before: func(query string) { // advances the slot before the server decodes its log
		if strings.Contains(query, "peek") {
			once.Do(func() {
				db.MustExec(`select pg_replication_slot_advance($1, $2::pg_lsn)`, killed.Slot, fields[len(fields)-2])
			})
		}
	}})
	s := &pglog.Source{DB: traced, Slot: killed.Slot, Publication: "p"}
	defer s.Close()
	_, err = s.Fetch(t.Context(), b.To, 10)
	require.ErrorContains(t, err, "was advanced")
	require.NotEqual(t, retry.Fatal, retry.Classify(err))
	got, _ := read(t, s, b.To, 10)
	assert.Equal(t, []string{"insert public.t {2} {2} -"}, texts(t, got))
}

func TestCursorOfAnotherHistory(t *testing.T) {
	t.Parallel()
	server := start(t)
	d := server.NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	prepare := func(db *sqlx.DB) {
		db.MustExec(`create table t (id int primary key); create publication p for table t`)
	}
	prepare(db)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t values (1)`)
	_, later := read(t, s, at, 10)

	other := server.NewDatabase(t).Open(t, dbtest.PGX)
	prepare(other)
	foreign := open(t, other)
	refused(t, pglog.ErrHistory, fetch(foreign, later), "connect to the other server")
	otherSlot := open(t, db)
	read(t, otherSlot, "", 10)
	refused(t, pglog.ErrHistory, fetch(otherSlot, later))

	db.MustExec(`select pg_replication_slot_advance($1, pg_current_wal_flush_lsn())`, s.Slot)
	refused(t, pglog.ErrHistory, fetch(s, at), "has been advanced")

	require.NoError(t, s.Close())
}

// A server that was restored from a copy of its files has the same identity. Its log shows that its
// history is another one.
func TestServerIsRestored(t *testing.T) {
	t.Parallel()
	for _, since := range []string{"", `insert into t values (2)`, `insert into t select i, repeat('x', 1000) from generate_series(100, 1000) i`} {
		t.Run(fmt.Sprint(len(since)), func(t *testing.T) {
			t.Parallel()
			server := start(t)
			d := server.NewDatabase(t)
			db := d.Open(t, dbtest.PGX)
			db.MustExec(`create table t (id int primary key, v text); create publication p for table t`)
			s := open(t, db)
			_, at := read(t, s, "", 10)
			db.MustExec(`insert into t values (1)`)
			before, at := read(t, s, at, 10)
			require.Len(t, before, 1)
			kept := at
			require.NoError(t, s.Close())
			require.NoError(t, server.Stop())
			restore, err := server.Backup()
			require.NoError(t, err)
			require.NoError(t, server.Start())
			db = d.Open(t, dbtest.PGX)
			s = &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
			db.MustExec(`insert into t values (2)`)
			got, at := read(t, s, at, 10)
			require.Len(t, got, 1)
			require.NoError(t, server.Stop())
			require.NoError(t, restore())
			require.NoError(t, server.Start())
			db = d.Open(t, dbtest.PGX)
			s = &pglog.Source{DB: db, Slot: s.Slot, Publication: "p"}
			if since != "" {
				db.MustExec(since)
			}
			refused(t, pglog.ErrHistory, fetch(s, at), "restored")
			require.NoError(t, fetch(s, kept), "a cursor that is older than the backup goes on")
			require.NoError(t, s.Close())
		})
	}
}

// After a rewind, the log is kept from the cursor that the pipeline was rewound to.
func TestRewindKeepsTheLog(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	s := open(t, db)
	_, at := read(t, s, "", 10)
	db.MustExec(`insert into t values (1)`)
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	s.Saved(b.To)
	require.NoError(t, fetch(s, at))
	require.NoError(t, s.Close())
	got, _ := read(t, s, at, 10)
	assert.Equal(t, []string{"insert public.t {1} {1} -"}, texts(t, got))
}

// Reading goes on when the slot cannot be advanced.
func TestSlotIsNotAdvanced(t *testing.T) {
	t.Parallel()
	d := start(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	role := "reader" + d.Name()
	db.MustExec(`create table t (id int primary key); create publication p for table t; create role ` + role + ` login replication password 'x'; grant select on t to ` + role)
	db.MustExec(`revoke execute on function pg_replication_slot_advance(name, pg_lsn) from public`)
	s := open(t, d.WithUser(role, "x").Open(t, dbtest.PGX))
	logged := &strings.Builder{}
	_, at := read(t, s, "", 10)
	s.Logger = slog.New(slog.NewTextHandler(logged, nil))
	db.MustExec(`insert into t values (1)`)
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	s.Saved(b.To)
	db.MustExec(`insert into t values (2)`)
	got, _ := read(t, s, b.To, 10)
	assert.Equal(t, []string{"insert public.t {2} {2} -"}, texts(t, got))
	assert.Contains(t, logged.String(), "slot not advanced")
	db.MustExec(`grant execute on function pg_replication_slot_advance(name, pg_lsn) to public`)
	require.NoError(t, s.Close())
}

func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	primary := start(t)
	d := primary.NewDatabase(t)
	d.Open(t, dbtest.PGX).MustExec(`create table t (id int primary key); create publication p for table t`)
	standby := dbtest.StartStandby(t, primary, logical())
	s := open(t, standby.Database(d.Name()).Open(t, dbtest.PGX))
	var err error
	lab.WaitFor(t, func() bool { err = fetch(s, ""); return err != nil })
	require.ErrorIs(t, err, pglog.ErrStandby)
	assert.NotEqual(t, retry.Fatal, retry.Classify(err), "it passes when the standby is promoted")
}

// Close does not advance a slot that another process has advanced, and an older saved cursor moves nothing.
func TestClose(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); create publication p for table t`)
	confirmed := func(slot string) (text string) {
		require.NoError(t, db.Get(&text, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, slot))
		return text
	}
	s := open(t, db)
	_, at := read(t, s, "", 10)
	before := confirmed(s.Slot)
	db.MustExec(`insert into t values (1)`)
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	require.NoError(t, s.Close())
	assert.Equal(t, before, confirmed(s.Slot), "what was only fetched is kept")
	s.Saved(b.To)
	require.NoError(t, s.Close())
	after := confirmed(s.Slot)
	assert.NotEqual(t, before, after)

	db.MustExec(`insert into t values (2)`)
	b, err = lab.Fetch(t, s, b.To, 10)
	require.NoError(t, err)
	s.Saved(b.To)
	db.MustExec(`select pg_replication_slot_advance($1, pg_current_wal_flush_lsn())`, s.Slot)
	moved := confirmed(s.Slot)
	require.NoError(t, s.Close())
	assert.Equal(t, moved, confirmed(s.Slot))
}
