package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// letters lists the rows that could not be copied.
func letters(_ context.Context, _ *sqlsource.Table, c config, _ *slog.Logger) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	n := 0
	var damaged error
	for l, err := range deadletter.List(c.deadLetter) {
		if err != nil {
			damaged = errors.Join(damaged, err)
			continue
		}
		n++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Time.Format(time.RFC3339), l.ID, l.Key, l.Error)
	}
	fmt.Fprintf(w, "%d rows\n", n)
	return errors.Join(w.Flush(), damaged)
}

// replay writes, to separate files, the rows that could not be copied. It ends at the
// first one that still cannot be copied.
func replay(ctx context.Context, t *sqlsource.Table, c config, log *slog.Logger) (err error) {
	c.out, c.mustExist = filepath.Join(c.deadLetter, "replayed"), false
	files, err := openFiles(c, log.With("pipeline", c.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := &poller.Poller[row.Row]{
		Name: c.name,
		Source: &deadletter.Source[row.Row]{Dir: c.deadLetter, Refetch: t, Gone: func(l deadletter.Letter) {
			fmt.Printf("no longer in the table: %s (letter %s)\n", l.Key, l.ID)
		}},
		Sink: files, Checkpointer: files,
		BatchSize: c.batch, Deadline: min(c.deadline, cmp.Or(c.timeout, c.deadline)), Retry: retry.Policy{MaxElapsed: c.timeout}, Logger: log,
	}
	if err = drain(ctx, p, files); err == nil {
		_, err = fmt.Printf("replayed %d rows to %s\n", p.Status().Records, c.out)
	}
	return err
}
