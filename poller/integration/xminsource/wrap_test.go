package xminsource_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// clock sets the transaction id of a server.
type clock struct {
	t      *testing.T
	server *dbtest.Server
	db     *sqlx.DB
	dir    string // of the data
	bin    string // of pg_resetwal
}

func clockOf(t *testing.T, server *dbtest.Server, db *sqlx.DB) clock {
	c := clock{t: t, server: server, db: db}
	var pid int
	require.NoError(t, db.QueryRow(`SELECT current_setting('data_directory'), pg_backend_pid()`).Scan(&c.dir, &pid))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Skipf("the directory of pg_resetwal is not known without /proc: %v", err)
	}
	c.bin = filepath.Join(filepath.Dir(exe), "pg_resetwal")
	return c
}

// set stops the server, and lets the next transaction have an id and an epoch.
func (c clock) set(epoch, id uint32) {
	c.t.Helper()
	for _, name := range []string{"postgres", "template1"} {
		db := c.server.Database(name).Open(c.t, dbtest.PGX)
		db.MustExec(`VACUUM (FREEZE)`)
		db.Close()
	}
	c.db.MustExec(`VACUUM (FREEZE)`)
	c.db.MustExec(`CHECKPOINT`)
	require.NoError(c.t, c.server.Stop())
	info, err := os.Stat(c.dir)
	require.NoError(c.t, err)
	owner := info.Sys().(*syscall.Stat_t)
	segment := filepath.Join(c.dir, "pg_xact", fmt.Sprintf("%04X", id/(32768*32)))
	if _, err := os.Stat(segment); err != nil { // the state of the transactions around the id
		require.NoError(c.t, os.WriteFile(segment, make([]byte, 256<<10), 0o600))
		require.NoError(c.t, os.Chown(segment, int(owner.Uid), int(owner.Gid)))
	}
	cmd := exec.Command(c.bin, "-D", c.dir, "-x", fmt.Sprint(id), "-e", fmt.Sprint(epoch))
	cmd.Dir = c.dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s", out)
	require.NoError(c.t, c.server.Start())
	c.db.SetMaxIdleConns(0) // its connections are dead
	c.db.SetMaxIdleConns(2)
}

// The ids of row versions wrap around after 2^32. No row is lost, and a frozen row comes again only when its id does.
func TestWrapAround(t *testing.T) {
	t.Parallel()
	server, db := private(t, dbtest.Args("-c", "autovacuum=off"))
	db.MustExec(`INSERT INTO t VALUES (1, 0)`)
	c := clockOf(t, server, db)
	times := map[string]int{}
	at, next := source.Cursor(""), 2
	read := func() {
		var rows []string
		rows, at, _ = poll(t, sourceOf(db, "t", "id"), at)
		for _, r := range rows {
			times[r]++
		}
		for _, r := range pairs(span(1, next-1)...) {
			require.Positive(t, times[r], "lost: %s", r)
		}
	}
	read()
	for _, to := range []struct{ epoch, id uint32 }{{0, 1_900_000_000}, {0, 3_800_000_000}, {0, 4_294_967_280}, {1, 1_500_000_000}, {1, 3_000_000_000}, {1, 4_294_967_280}} {
		c.set(to.epoch, to.id)
		for range 25 { // across the wrap
			if next%7 == 0 {
				read()
			}
			db.MustExec(`INSERT INTO t VALUES ($1, 0)`, next)
			next++
		}
		read()
		all, _, _ := poll(t, sourceOf(db, "t", "id"), "")
		assert.Equal(t, pairs(span(1, next-1)...), all, "the first load has rows of each age")
		if to.epoch == 0 {
			for row, n := range times {
				assert.Equal(t, 1, n, row)
			}
		}
	}
	for row, n := range times {
		assert.LessOrEqual(t, n, 2, row)
	}
}

func span(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// A cursor that is too far back is refused, and so is a counter that fell back.
func TestTooFarBack(t *testing.T) {
	t.Parallel()
	server, db := private(t, dbtest.Args("-c", "autovacuum=off"))
	c := clockOf(t, server, db)
	db.MustExec(`INSERT INTO t VALUES (1, 0)`)
	_, at, _ := poll(t, sourceOf(db, "t", "id"), "")
	db.MustExec(`UPDATE t SET v = 0`)
	begun, err := lab.Fetch(t, sourceOf(db, "t", "id"), at, 1)
	require.NoError(t, err)
	c.set(0, 1_500_000_000)
	_, later, _ := poll(t, sourceOf(db, "t", "id"), "")
	c.set(0, 2_300_000_000)
	for _, cursor := range []source.Cursor{at, begun.To} {
		err := lab.Refused(t, sourceOf(db, "t", "id"), cursor)
		require.ErrorIs(t, err, sqlsource.ErrHistory)
		lab.RequirePermanent(t, err, "has given out more than", "poll more often", "start over")
	}
	_, _, _ = poll(t, sourceOf(db, "t", "id"), later)
	c.set(0, 1_000_000_000)
	lab.RequirePermanent(t, lab.Refused(t, sourceOf(db, "t", "id"), later), "another cluster, or it was restored")
}
