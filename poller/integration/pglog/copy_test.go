package pglog_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A statement that rewrites a table would empty it for the snapshot of the copy. It waits for the copy.
func TestTableIsRewrittenDuringCopy(t *testing.T) {
	t.Parallel()
	db := start(t).NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`create table a (id int primary key); create table b (id int primary key, v int); insert into a values (1), (2); insert into b values (1, 1), (2, 2); create publication p for table a, b`)
	s := open(t, db)
	b, err := s.Fetch(t.Context(), "", 1)
	require.NoError(t, err)
	assert.Equal(t, []string{"upsert public.a {1} {1} -"}, texts(t, b.Records))
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := db.ExecContext(ctx, `alter table b alter v type bigint`)
		done <- err
	}()
	lab.WaitFor(t, func() bool {
		var waits bool
		return db.Get(&waits, `select count(*) > 0 from pg_locks where not granted and relation = 'b'::regclass`) == nil && waits || len(done) > 0
	})
	got, _ := read(t, s, b.To, 1)
	assert.Equal(t, []string{"upsert public.a {2} {2} -", "upsert public.b {1} {1, 1} -", "upsert public.b {2} {2, 2} -"}, texts(t, got))
	require.NoError(t, <-done)
}
