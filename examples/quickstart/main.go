// Command quickstart copies the orders of a shop from a database to a file. The
// database fails for two seconds in the middle. At the end the program counts the
// orders that arrived. It needs nothing except Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

type Order struct{ ID, Cents int64 }

func main() {
	log.SetFlags(log.Ltime)
	dir := must(os.MkdirTemp("", "quickstart-"))
	shop := sqlx.MustOpen("sqlite3", "file:"+dir+"/shop.db?_pragma=busy_timeout(60000)&_pragma=synchronous(off)")
	shop.MustExec("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER)")

	db := sqlx.MustOpen("sqlite3", "file:"+dir+"/shop.db?_pragma=busy_timeout(300)")
	orders := &sqlsource.Query[Order]{DB: db, Select: "SELECT id, cents FROM orders", Key: []string{"id"}, Table: "orders"}
	files := must(filesink.Open(dir+"/orders", filesink.Options[Order]{Name: "orders"}))
	pipeline := poller.Poller[Order]{Name: "orders", Source: orders, Sink: files, Checkpointer: files, Interval: time.Second / 5}

	ctx, stop := context.WithCancel(context.Background())
	sold := map[Order]bool{}
	go func() { sell(shop, sold, pipeline.Status); stop() }()
	must(0, pipeline.Run(ctx))                    // runs until the shop closes
	must(0, pipeline.Drain(context.Background())) // delivers the last orders
	must(0, files.Seal(context.Background()))

	path, written, delivered := dir+"/orders/orders-0000000001.jsonl", len(sold), 0
	for lines := json.NewDecoder(must(os.Open(path))); lines.More(); delivered++ {
		var o Order
		must(0, lines.Decode(&o))
		delete(sold, o) // orders that remain at the end were lost
	}
	fmt.Printf("\nrows written    %4d\nrows delivered  %4d\nlost            %4d\ntwice           %4d\nsee %s\n",
		written, delivered, len(sold), delivered-(written-len(sold)), path)
}

func sell(shop *sqlx.DB, sold map[Order]bool, status func() poller.Status) {
	outage := map[int64]string{60: "BEGIN EXCLUSIVE -- nobody can read now", 100: "COMMIT -- the database is back"}
	shop.SetMaxOpenConns(1)
	for i := int64(1); i <= 180; i++ {
		for i == 100 && status().Attempts == 0 { // on a slow disk it may not have noticed yet
			time.Sleep(50 * time.Millisecond)
		}
		if statement := outage[i]; statement != "" {
			log.Print(statement)
			shop.MustExec(statement)
		}
		shop.MustExec("INSERT INTO orders VALUES (?, ?)", i, 99+7*i)
		sold[Order{ID: i, Cents: 99 + 7*i}] = true
		time.Sleep(50 * time.Millisecond)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
