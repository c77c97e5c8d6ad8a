package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// reset sets the cursor of the copy, as -rewind and -adopt say, and tells what it
// was and is. It does not ask the database.
func reset(ctx context.Context, t *sqlsource.Table, c config, log *slog.Logger) (err error) {
	if _, err := filesink.History(c.out); errors.Is(err, fs.ErrNotExist) { // which Open would make
		return fmt.Errorf("there is no copy in %s", c.out)
	}
	files, err := openFiles(c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	was, err := files.Load(ctx)
	if err != nil {
		return err
	}
	now, err := target(t, was, c)
	if err != nil {
		return err
	}
	if err := files.Rewind(now); err != nil {
		return err
	}
	fmt.Printf("was: %s\nnow: %s\n", t.Describe(was), t.Describe(now))
	if c.adopt {
		fmt.Println("The copy goes on from there, in the database as it is now.")
	} else {
		fmt.Println("The rows behind that are copied again, to new files. Complete files stay as they are: set aside those whose rows come again.")
	}
	return nil
}

func target(t *sqlsource.Table, was source.Cursor, c config) (source.Cursor, error) {
	switch {
	case c.adopt && was == "":
		return "", errors.New("nothing is copied so far, so there is nothing to adopt")
	case c.adopt:
		return t.Adopt(was)
	case c.rewind == "first":
		return t.At() // and not where -start begins
	}
	return behind(t, "rewind", "first", c.rewind)
}
