// Command changes writes every insert, update and delete of a table to JSON Lines files
// until it is stopped.
//
//	go run ./examples/changes -table orders -key id -out out shop.db
//	go run ./examples/changes -by scan -table public.orders -key id -out out postgres://…
//	go run ./examples/changes -by log -table public.orders -out out postgres://…
//
// The flag -by chooses the means. compare reads the whole table at intervals. scan looks in
// the whole table for new row versions each second, if there can be any, on Postgres only.
// Both need SELECT only. triggers and log need statements that an administrator runs once.
// If they have not been run, changes prints them and ends.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/diffsource"
	"github.com/artifactofdevotion/devotion/source/pglog"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

type settings struct {
	by, table, out, dsn string
	key                 []string
	every               time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.by, "by", "compare", "`means`: compare, scan, triggers or log")
	flag.StringVar(&s.table, "table", "", "`name` of the table")
	key := flag.String("key", "id", "its key `columns`, separated by commas")
	flag.StringVar(&s.out, "out", "", "`directory` of the files")
	flag.DurationVar(&s.every, "every", time.Minute, "how often the table is read with -by compare, and its keys, to find deletes, with -by scan")
	flag.Parse()
	s.key, s.dsn = strings.Split(*key, ","), flag.Arg(0)
	if s.table == "" || s.out == "" || s.dsn == "" {
		log.Fatal("usage: changes -table NAME -key COLUMNS -out DIRECTORY DATABASE")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, s settings) (err error) {
	driver := "sqlite3"
	if strings.HasPrefix(s.dsn, "postgres") {
		driver = "pgx"
	}
	db, err := sqlx.Open(driver, s.dsn)
	if err != nil {
		return errors.New("the name of the database is not valid") // err can contain its password
	}
	defer db.Close()
	if driver != "pgx" && (s.by == "scan" || s.by == "log") {
		return fmt.Errorf("-by %s reads Postgres only: the name of its database begins with postgres://", s.by)
	}
	m, err := open(ctx, db, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()

	files, err := filesink.Open(s.out, filesink.Options[row.Change]{Name: "changes"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	p := &poller.Poller[row.Change]{
		Name:         s.table,
		Source:       m.source,
		Sink:         files,
		Checkpointer: files, // the same value: exactly once
		Interval:     time.Second,
		Hooks:        poller.Hooks{Poll: func(i poller.PollInfo) { m.saved(i.To) }},
	}
	return p.Run(ctx)
}

// means is a way to find changes.
type means struct {
	source source.Source[row.Change]
	saved  func(source.Cursor) // is called with each saved cursor
	end    func() error
}

func open(ctx context.Context, db *sqlx.DB, s settings) (means, error) {
	m := means{saved: func(source.Cursor) {}, end: func() error { return nil }}
	switch s.by {
	case "compare":
		diff := &diffsource.Source{
			Table: &sqlsource.Table{DB: db, Name: s.table, Key: s.key},
			Dir:   filepath.Join(s.out, "state"), // it belongs to the cursor, which the files hold
			Every: s.every,
		}
		m.source, m.end = diff, diff.Close
		return m, nil
	case "scan":
		scan := &xminsource.Source{
			DB: db, Name: s.table, Key: s.key,
			Deletes: &xminsource.Deletes{Dir: filepath.Join(s.out, "state"), Every: s.every},
		}
		m.source, m.end = scan, scan.Close
		return m, nil
	case "triggers":
		changes := &changelog.Table{DB: db, Name: s.table, Key: s.key, Load: true}
		m.source = changes
		var missing *changelog.InstallError
		err := changes.Check(ctx)
		if errors.As(err, &missing) {
			err = fmt.Errorf("let the table's owner run these statements, and start again:\n\n%v", missing.Script)
		}
		return m, err
	case "log":
		name := strings.NewReplacer(".", "_", `"`, "").Replace(strings.ToLower(s.table))
		changes := &pglog.Source{DB: db, Slot: name, Publication: name, Tables: []string{s.table}}
		m.source, m.saved, m.end = changes, changes.Saved, changes.Close
		script, err := changes.Setup(ctx)
		if script != "" && err == nil {
			err = fmt.Errorf("let an administrator run these statements, and start again:\n\n%s", script)
		}
		return m, err
	}
	return m, fmt.Errorf("-by %s: want compare, scan, triggers or log", cmp.Or(s.by, `""`))
}
