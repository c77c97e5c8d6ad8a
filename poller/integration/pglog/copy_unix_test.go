//go:build unix

package pglog_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// The copy makes the server flush the records of open transactions, which it leaves for up to 15 seconds if nobody commits.
func TestCopyOnAnIdleServer(t *testing.T) {
	t.Parallel()
	d := start(t).NewDatabase(t)
	db := d.Open(t, dbtest.PGX)
	db.MustExec(`create table t (id int primary key); insert into t values (1); create publication p for table t`)
	writer := lab.Begin(t, db)
	s := open(t, traced(t, d, tracer{before: func(query string) {
		if strings.Contains(query, "pg_current_snapshot()") {
			_, err := writer.Exec(`select pg_logical_emit_message(false, '', 'a')`) // a record without a commit
			assert.NoError(t, err)
		}
	}}))
	var pid int
	require.NoError(t, db.Get(&pid, `select pid from pg_stat_activity where backend_type = 'background writer'`))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP)) // it would flush them
	defer func() { assert.NoError(t, syscall.Kill(pid, syscall.SIGCONT)) }()
	ctx, cancel := context.WithTimeout(t.Context(), lab.WaitLimit)
	defer cancel()
	b, err := s.Fetch(ctx, "", 10)
	require.NoError(t, err)
	assert.Len(t, b.Records, 1)
}
