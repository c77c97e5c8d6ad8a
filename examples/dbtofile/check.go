package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/verify"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/recommend"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// checkTimeout limits all statements of -check together. -deadline or -timeout may be less.
const checkTimeout = 30 * time.Second

// adviseTimeout limits the statements about all tables of a database: about 0.1 s for each.
const adviseTimeout = 10 * time.Minute

// errCheck reports that -check, -audit or -verify found a problem, which it has printed.
var errCheck = errors.New("the check failed")

// errDiffers reports that -verify found differences but no missing row, and printed them.
var errDiffers = errors.New("rows differ")

// compare compares the files with the table and prints the result.
func compare(ctx context.Context, t *sqlsource.Table, c config, _ *slog.Logger) error {
	r, err := verify.Files(ctx, t, c.out, min(c.deadline, cmp.Or(c.timeout, c.deadline)))
	if err != nil {
		return errors.New(retry.Text(err))
	}
	_, err = fmt.Print(r)
	switch {
	case err != nil:
		return err
	case r.Missing() > 0:
		return errCheck
	case !r.Equal():
		return errDiffers
	}
	return nil
}

// check prints the state of the table and of the copy in a directory. It does not
// lock the directory, because the copy may be running.
func check(ctx context.Context, t *sqlsource.Table, c config, _ *slog.Logger) error {
	dir := c.out
	last, copied := filesink.Entry{}, "nothing is copied yet"
	if dir != "" {
		history, err := filesink.History(dir)
		switch {
		case err == nil:
			last = history[0]
			copied = fmt.Sprintf("the cursor was stored in %s %s ago", dir, age(time.Since(last.Time)))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	limit := min(checkTimeout, c.deadline, cmp.Or(c.timeout, checkTimeout))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := t.Check(ctx, last.Cursor)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v: the server cannot be reached, or another transaction has locked the table: %s", limit, retry.Text(err))
	}
	if err != nil {
		return errors.New(retry.Text(err))
	}
	if _, err := fmt.Printf("%v%s\n", found, copied); err != nil {
		return err
	}
	if found.Safe() {
		return nil
	}
	if found.Report.Lossy {
		fmt.Print("\n")
		err = advise(ctx, t.DB, c)
	}
	return cmp.Or(err, errCheck)
}

// advise prints by which means the tables that match -table can be read.
func advise(ctx context.Context, db *sqlx.DB, c config) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.timeout, adviseTimeout))
	defer cancel()
	tables, err := recommend.Tables(ctx, db, c.table)
	if err != nil {
		return errors.New(retry.Text(err))
	}
	if len(c.key) > 0 && len(tables) == 1 {
		tables[0].Key = c.key
		if tables[0], err = recommend.Of(ctx, db, tables[0].Relation); err != nil {
			return errors.New(retry.Text(err))
		}
	}
	_, err = fmt.Print(recommend.Text(tables))
	return err
}
