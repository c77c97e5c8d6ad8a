package index_test

import (
	"fmt"
	"time"

	"aead.dev/minisign"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

func Example() {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	file, signature, err := index.Sign(index.Index{
		Format:  index.Format,
		Serial:  1,
		Expires: time.Now().AddDate(0, 1, 0),
	}, private)
	if err != nil {
		panic(err)
	}
	x, err := index.Keys{public}.Open(file, signature)
	fmt.Println(x.Serial, err)

	file[0]++
	_, err = index.Keys{public}.Open(file, signature)
	fmt.Println(err)
	// Output:
	// 1 <nil>
	// index: index.json: not signed by a trusted key
}
