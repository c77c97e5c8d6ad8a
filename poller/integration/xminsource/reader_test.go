package xminsource_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

const sinkTables = `CREATE TABLE sink (n bigserial, id bigint, v bigint, deleted boolean); CREATE TABLE cursor (c text); INSERT INTO cursor VALUES ('')`

// copyOnce copies one batch into the sink, together with its cursor. It is done if the source is idle.
func copyOnce(ctx context.Context, src *xminsource.Source, sink *sqlx.DB) (done bool, err error) {
	var at source.Cursor
	if err := sink.GetContext(ctx, &at, `SELECT c FROM cursor`); err != nil {
		return false, err
	}
	b, err := src.Fetch(ctx, at, 5000)
	if err != nil || b.To == at {
		return err == nil && b.Held == nil && !b.More, err
	}
	ids, vs, deleted := make([]string, len(b.Records)), make([]string, len(b.Records)), make([]string, len(b.Records))
	for i, c := range b.Records {
		if ids[i], vs[i], deleted[i] = c.Key.Text(0), "NULL", "true"; c.Op != row.Delete {
			vs[i], deleted[i] = c.Row.Text(1), "false"
		}
	}
	tx, err := sink.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	moved, err := tx.ExecContext(ctx, `UPDATE cursor SET c = $1 WHERE c = $2`, string(b.To), string(at))
	if err != nil {
		return false, err
	}
	if n, err := moved.RowsAffected(); err != nil || n != 1 {
		return false, fmt.Errorf("another process has moved the cursor: %d, %w", n, err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO sink (id, v, deleted) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::boolean[])`,
		"{"+strings.Join(ids, ",")+"}", "{"+strings.Join(vs, ",")+"}", "{"+strings.Join(deleted, ",")+"}"); err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// The environment variables of a reading process.
const (
	sourceVariable = "DEVOTION_XMIN_SOURCE"
	sinkVariable   = "DEVOTION_XMIN_SINK"
	keysVariable   = "DEVOTION_XMIN_KEYS"
)

// runReader copies until the process is killed, if it is a reading process.
func runReader() (is bool) {
	from, to := os.Getenv(sourceVariable), os.Getenv(sinkVariable)
	if from == "" {
		return false
	}
	go func() { // the test has ended, also if it was killed
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end of it will do
		os.Exit(0)
	}()
	db, sink := sqlx.MustOpen("pgx", from), sqlx.MustOpen("pgx", to)
	src := sourceOf(db, "t", "id")
	src.Deletes = &xminsource.Deletes{Dir: os.Getenv(keysVariable), Every: 200 * time.Millisecond}
	for {
		if _, err := copyOnce(context.Background(), src, sink); err != nil && !transient(err) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// process is a process that reads.
type process struct {
	t            *testing.T
	source, sink string
	keys         string // the directory of Deletes
	cmd          *exec.Cmd
	output       bytes.Buffer
	peak         int64 // KiB
}

func (p *process) start() {
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), sourceVariable+"="+p.source, sinkVariable+"="+p.sink, keysVariable+"="+p.keys, "GOMEMLIMIT=48MiB")
	p.cmd.Stderr = &p.output
	_, err := p.cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	p.t.Cleanup(func() {
		if p.cmd != nil {
			p.cmd.Process.Kill() //nolint:errcheck // it may have ended
		}
	})
}

// kill kills the process. If the process ended before the kill, it found a fault.
func (p *process) kill() {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		p.peak = max(p.peak, kb)
	}
	require.NoError(p.t, p.cmd.Process.Kill())
	err := p.cmd.Wait()
	require.ErrorContains(p.t, err, "killed", "%s", &p.output)
	p.cmd = nil
}
