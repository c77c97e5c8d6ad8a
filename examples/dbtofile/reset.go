package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// reset sets the cursor of the copy for -rewind and -adopt, and prints the old and
// the new one. -rewind first does not query the database.
func reset(ctx context.Context, t *sqlsource.Table, c config, log *slog.Logger) (err error) {
	if _, err := filesink.History(c.out); errors.Is(err, fs.ErrNotExist) { // Open would create the directory
		return fmt.Errorf("%s holds no copy: check -out", c.out)
	}
	files, err := openFiles(c, log.With("pipeline", c.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	was, err := files.Load(ctx)
	if err != nil {
		return err
	}
	now, err := target(ctx, t, was, c)
	if err != nil {
		return err
	}
	if err := files.Rewind(now); err != nil {
		return err
	}
	if err := files.Seal(ctx); err != nil { // waits until OnSeal has seen the file that Rewind sealed
		return err
	}
	fmt.Printf("was: %s\nnow: %s\n", t.Describe(was), t.Describe(now))
	if c.adopt {
		fmt.Println("The copy continues from there, in the database as it is now.")
	} else {
		fmt.Println("The next start copies the rows after it again, to new files. Complete files stay, so these rows are then in two files.")
	}
	return nil
}

func target(ctx context.Context, t *sqlsource.Table, was source.Cursor, c config) (source.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	switch {
	case c.adopt && was == "":
		return "", errors.New("nothing is copied yet: start the copy instead of adopting")
	case c.adopt:
		return adopted(ctx, t, was)
	case c.rewind == "first":
		return t.At() // before the first row, whatever -start is
	}
	to, err := after(t, "rewind", "first", c.rewind)
	if err != nil {
		return "", err
	}
	return to, passed(ctx, t, to, was)
}

// adopted returns the cursor at the same key, unless keys below it are drawn again: those rows would be missed.
func adopted(ctx context.Context, t *sqlsource.Table, was source.Cursor) (source.Cursor, error) {
	to, err := t.Adopt(was)
	if err != nil {
		return "", err
	}
	r, err := t.Check(ctx, to)
	if err != nil {
		return "", fmt.Errorf("the cursor stays %s: %s", t.Describe(was), retry.Text(err))
	}
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Text, sqlsource.ErrHistory.Error()) {
			return "", fmt.Errorf("%s: adopting the cursor would lose rows, use -rewind", f.Text)
		}
	}
	return to, nil
}

// passed returns an error unless the copy has passed rows after the key of to. Otherwise
// rows would be skipped that are not copied yet, or are added later.
func passed(ctx context.Context, t *sqlsource.Table, to, was source.Cursor) error {
	if was == "" {
		return errors.New("nothing is copied yet: use -start instead of -rewind")
	}
	upTo, err := t.Adopt(was) // whatever history it is of
	if err != nil {
		return err
	}
	rows, err := t.Keys(ctx, to, upTo, 1)
	if err != nil {
		return fmt.Errorf("the cursor stays %s: %s", t.Describe(was), retry.Text(err))
	}
	if len(rows) == 0 {
		return fmt.Errorf("the table has no row after %s and up to the cursor, %s, so nothing would be copied again, and rows could be skipped: the cursor stays", t.Position(to), cmp.Or(t.Position(was), "before the first row"))
	}
	return nil
}
