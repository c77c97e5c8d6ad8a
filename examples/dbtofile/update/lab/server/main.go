// Command server serves the files of a directory over HTTP to a test, which may
// write into the file mode beside the directory how the server is to spoil one of
// them, by its name:
//
//	missing FILE     answers 404
//	truncated FILE   closes the connection after a half
//	slow FILE        sends a byte every 10 ms
//	halted FILE      sends a half, and the rest when the mode is another one
package main

import (
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	dir := os.Args[2]
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // for a test
		name := filepath.Base(r.URL.Path)
		content, err := os.ReadFile(filepath.Join(dir, name))
		mode := func(what string) bool {
			text, _ := os.ReadFile(filepath.Join(filepath.Dir(dir), "mode"))
			return strings.TrimSpace(string(text)) == what+" "+name
		}
		if err != nil || mode("missing") {
			http.NotFound(w, r)
			return
		}
		half := len(content) / 2
		flush := http.NewResponseController(w).Flush
		switch {
		case mode("truncated"):
			_, _ = w.Write(content[:half])
			_ = flush()
			panic(http.ErrAbortHandler)
		case mode("slow"):
			for _, b := range content {
				if _, err := w.Write([]byte{b}); err != nil || flush() != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		case mode("halted"):
			_, _ = w.Write(content[:half])
			_ = flush()
			for mode("halted") && r.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			_, _ = w.Write(content[half:])
		default:
			_, _ = w.Write(content)
		}
	})))
}
