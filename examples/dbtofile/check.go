package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// checkTimeout is for all that -check asks the database.
const checkTimeout = 30 * time.Second

// errCheck says that -check found something wrong, and printed it.
var errCheck = errors.New("the check failed")

// check prints what there is to say of the table and of the copy in a directory,
// which it does not lock: the service may be running.
func check(ctx context.Context, t *sqlsource.Table, dir string) error {
	last, copied := filesink.Entry{}, "nothing is copied so far"
	if dir != "" {
		history, err := filesink.History(dir)
		switch {
		case err == nil:
			last = history[0]
			copied = fmt.Sprintf("the cursor is that of %s, stored there %s ago", dir, age(time.Since(last.Time)))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c, err := t.Check(ctx, last.Cursor)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v: the server cannot be reached, or another transaction has locked the table: %s", checkTimeout, retry.Text(err))
	}
	if err != nil {
		return errors.New(retry.Text(err))
	}
	if _, err := c.WriteTo(os.Stdout); err != nil {
		return err
	}
	fmt.Println(copied)
	if !c.Safe() {
		return errCheck
	}
	return nil
}
