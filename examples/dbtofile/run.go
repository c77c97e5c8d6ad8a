package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/deadletter"
	"github.com/artifactofdevotion/devotion/poller/sdnotify"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// run does what the settings say: it copies until ctx ends, or with -once until all rows
// are copied.
func run(ctx context.Context, c config) (err error) {
	log, screen, end := output(c.logFormat, c.logLevel)
	defer end()
	parts := log.With("pipeline", c.name) // the Poller adds the key itself

	c.warnOfReaders(parts)
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close()
	if c.advises() {
		return advise(ctx, db, c)
	}
	table := &sqlsource.Table{DB: db, Name: c.table, Key: c.key, Columns: c.columns, Where: c.where, Select: c.query,
		MaxRowBytes: c.maxRowBytes, Ceiling: c.ceiling, Logger: parts}
	if table.Start, err = start(table, c.start); err != nil {
		return err
	}
	if c.letters || c.replay { // -dead-letter may be a mount point that is not mounted
		if _, err := filesink.History(c.deadLetter); err != nil {
			return fmt.Errorf("-dead-letter: %w", err)
		}
	}
	if c.verify || c.adopt || c.rewind != "" {
		if err := refuseSnapshot(c); err != nil {
			return err
		}
	}
	if f := c.action(); f != nil {
		return f(ctx, table, c, log)
	}
	return follow(ctx, table, c, log, screen)
}

// action returns what to do instead of copying, nil for nothing.
func (c config) action() func(context.Context, *sqlsource.Table, config, *slog.Logger) error {
	switch {
	case c.check:
		return check
	case c.verify:
		return compare
	case c.audit > 0:
		return audit
	case c.adopt || c.rewind != "":
		return reset
	case c.letters:
		return letters
	case c.replay:
		return replay
	}
	return nil
}

// follow runs the pipeline.
func follow(ctx context.Context, table *sqlsource.Table, c config, log *slog.Logger, screen *screen) (err error) {
	parts := log.With("pipeline", c.name)
	files, err := openFiles(c, parts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()

	src, end := newReader(table, c)
	defer func() { err = errors.Join(err, end()) }()
	p := &poller.Poller[row.Row]{
		Name:         c.name,
		Source:       src,
		Sink:         files,
		Checkpointer: files, // stores the cursor with the rows: exactly once
		BatchSize:    c.batch,
		Interval:     c.interval,
		Deadline:     min(c.deadline, cmp.Or(c.timeout, c.deadline)),
		Retry:        retry.Policy{MaxElapsed: c.timeout},
		Logger:       log,
	}
	if c.deadLetter != "" {
		letters, err := deadletter.Open[row.Row](c.deadLetter, deadletter.Options{Logger: parts, MustExist: c.mustExist})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, letters.Close()) }()
		p.DeadLetter = letters
	}
	if screen != nil {
		defer screen.watch(p.Status)()
	}
	if c.listen != "" {
		stop, err := serve(c, &p.Hooks, p.Status, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	stopNotify, err := sdnotify.Start(ctx, p.Status)
	if err != nil {
		return err
	}
	defer stopNotify()
	if c.once {
		return drain(ctx, p, files)
	}
	return p.Run(ctx)
}

// drain copies the existing rows and completes the last file.
func drain(ctx context.Context, p *poller.Poller[row.Row], files *filesink.Dir[row.Row]) error {
	err := p.Drain(ctx)
	if err == nil || errors.Is(err, poller.ErrHeld) {
		err = cmp.Or(files.Seal(ctx), err)
	}
	return err
}

func openFiles(c config, log *slog.Logger) (*filesink.Dir[row.Row], error) {
	encoder := filesink.JSONLines[row.Row]()
	if c.format == "csv" {
		encoder = filesink.CSV[row.Row]()
	}
	return filesink.Open(c.out, filesink.Options[row.Row]{
		Name:         c.name,
		Encoder:      encoder,
		MustExist:    c.mustExist,
		SegmentBytes: c.segmentBytes,
		SegmentAge:   cmp.Or(c.segmentAge, -1), // the flag has 0 for never
		Logger:       log,
		OnSeal: func(_ context.Context, s filesink.Segment) error {
			log.Info("file complete", "path", s.Path, "rows", s.Rows, "bytes", s.Bytes)
			return nil
		},
	})
}

// start returns the cursor for -start.
func start(t *sqlsource.Table, from string) (source.Cursor, error) {
	switch from {
	case "first":
		return "", nil
	case "latest":
		return sqlsource.Latest, nil
	}
	return after(t, "start", "first, latest", from)
}

// after returns the cursor after the row with the key given to a flag.
func after(t *sqlsource.Table, flag, others, text string) (source.Cursor, error) {
	key := []any{text}
	if len(t.Key) > 1 {
		lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(lines) != 1 || len(lines[0]) != len(t.Key) {
			return "", wrong("-%s: want %s, or the values of %s separated by commas", flag, others, strings.Join(t.Key, ","))
		}
		key = nil
		for _, v := range lines[0] {
			key = append(key, v)
		}
	}
	at, err := t.At(key...)
	if err != nil {
		return "", wrong("-%s: %v", flag, err)
	}
	return at, nil
}
