use residua_kernels::*; use std::time::Instant;
fn main(){
 let args: Vec<String> = std::env::args().collect();
 let batch: usize = args.get(1).map_or(128, |a| a.parse().unwrap());
 let only: Option<usize> = args.get(2).map(|a| a.parse().unwrap());
 for (i,(side,ci,co,size,stride)) in [(32,16,16,3,1),(16,32,32,3,1),(8,64,64,3,1),(32,64,16,1,1),(32,16,64,1,1),(16,128,32,1,1),(16,32,128,1,1),(8,256,64,1,1),(8,64,256,1,1),(32,3,16,3,1),(32,16,32,3,2)].into_iter().enumerate() {
  if only.is_some_and(|o| o != i) { continue; }
  let input=MapShape{batch,height:side,width:side,channels:ci};
  let c=Convolution{input,outputs:co,size,stride,algorithm:Algorithm::Winograd,instructions:Instructions::current()};
  let o=c.output();
  let x:Vec<f32>=(0..input.len()).map(|i|((i*7919)%1000) as f32/500.-1.).collect();
  let w:Vec<f32>=(0..c.weights_len()).map(|i|((i*104729)%1000) as f32/5000.-0.1).collect();
  let mut y=vec![0f32;o.len()]; let mut m=vec![0f32;2*co];
  let g:Vec<f32>=(0..o.len()).map(|i|((i*7907)%1000) as f32/500.-1.).collect();
  let mut dx=vec![0f32;input.len()]; let mut dw=vec![0f32;w.len()];
  let norm=Normalisation::new(&[vec![0.;ci],vec![1.;ci]].concat(),&vec![1.;ci],&vec![0.1;ci],1e-5);
  let inp=Input{values:&x,norm:Some(&norm),is_activated:true};
  let flops=2.*(o.len()*ci*size*size) as f64;
  let mode=args.get(3).cloned().unwrap_or_default(); let best=|n:&str,f:&mut dyn FnMut()|{if mode!=""&&mode!=n{return 1.}let mut b=f64::MAX;for _ in 0..(if mode==""{12}else{60}){let t=Instant::now();f();b=b.min(t.elapsed().as_secs_f64());}b};
  let f=best("f",&mut||c.forward(inp,&w,None,&mut y,Some((1,&mut m))));
  let fa=best("fa",&mut||c.forward(inp,&w,Some(&g),&mut y,Some((1,&mut m))));
  let b=best("b",&mut||{c.backward(inp,&w,OutputGradient::Plain(&g),&mut dw,InputGradient::OfNorm(&mut dx),false);});
  let s=c.backward(inp,&w,OutputGradient::Plain(&g),&mut dw,InputGradient::SumsOnly,false).unwrap();
  let so=best("so",&mut||{c.backward(inp,&w,OutputGradient::Plain(&g),&mut dw,InputGradient::SumsOnly,false);});
  let fi=best("fi",&mut||{c.finish_input_gradient(inp,&w,OutputGradient::Plain(&g),&s,None,&mut dx);});
  let gf=|t:f64,n:f64|n*flops/t/1e9; let us=|t:f64|t*1e6/batch as f64;
  println!("{side:2} {ci:3}->{co:3} {size}x{size}/{stride} fwd {:6.2} us {:4.0}  fwd+add {:6.2} us {:4.0}  bwd {:6.2} us {:4.0}  sums {:6.2} {:4.0} finish {:6.2} {:4.0}",us(f),gf(f,1.),us(fa),gf(fa,1.),us(b),gf(b,2.),us(so),gf(so,2.),us(fi),gf(fi,1.));
 }
}
