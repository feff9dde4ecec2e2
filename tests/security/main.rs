mod case;
fn main(){ let f=case::File::read(std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap(); println!("{} {:?}", f.cases.len(), f.cases[0]);
 for id in ["SESS-011","HDR-019","MIG-002","FRM-005","PATH-012"] { println!("{:?}", f.cases.iter().find(|c| c.id==id).unwrap()); } }
